#!/bin/sh
# Before the files go; an upgrade removes nothing. dpkg says "remove", rpm how
# many versions stay.
set -e
case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac
[ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ] || exit 0
systemctl disable --now regctl.service regctl-gc.timer regctl-prune.timer
