"""Images: getting the bytes, checking them, keeping them. Blocking: never on the thread of a line."""
