#!/bin/sh
# A head-end of mosquitto_pub and mosquitto_sub: orders a campaign, waits for the answer, then for its end.
#   head_end.sh GATEWAY ORDER.json [-h HOST -p PORT --cafile CA --cert CERT --key KEY]
# ORDER.json has the arguments of campaign.submit. Exit status 0: all meters were updated.
set -eu
gateway=$1 order=$2
shift 2
base=mgw/v1/$gateway
campaign=$(sed -n 's/.*"campaign_id": *"\([^"]*\)".*/\1/p' "$order")
cmd_id=$(cat /proc/sys/kernel/random/uuid)
reply_to=$base/rsp/$cmd_id

# Subscribed before it is ordered; the session keeps the answer until it is fetched.
mosquitto_sub "$@" -V 5 -i "sh-$cmd_id" -c -x 3600 -q 1 -t "$reply_to" -E
printf '{"v":1,"cmd_id":"%s","issued":"%s","expires":"%s","args":%s}' "$cmd_id" \
    "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$(date -u -d '+1 hour' +%Y-%m-%dT%H:%M:%SZ)" "$(cat "$order")" |
    mosquitto_pub "$@" -V 5 -q 1 -t "$base/cmd/campaign.submit" -D publish response-topic "$reply_to" -s
reply=$(mosquitto_sub "$@" -V 5 -i "sh-$cmd_id" -c -q 1 -t "$reply_to" -C 1 -W 60)
echo "order: $reply"
case $reply in
*'"status":"accepted"'*) ;;
*) exit 1 ;;
esac

# What is retained says how it is now, whenever one asks.
while snapshot=$(mosquitto_sub "$@" -V 5 -t "$base/campaign/$campaign" -C 1 -W 60); do
    state=$(printf '%s' "$snapshot" | sed -n 's/.*"state": *"\([^"]*\)".*/\1/p')
    echo "campaign/$campaign: $state"
    case $state in
    succeeded) exit 0 ;;
    partial | failed | cancelled | expired) exit 1 ;;
    esac
    sleep 1
done
exit 1
