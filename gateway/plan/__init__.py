"""PURE: when, and who? Maintenance windows over time zones, gates, turns and estimates."""
