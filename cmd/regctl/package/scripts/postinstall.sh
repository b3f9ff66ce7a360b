#!/bin/sh
# After the files are there. It starts nothing that does not run already.
set -e
# A directory that is there belongs to somebody, and stays as it is.
[ -e "$DPKG_ROOT/var/lib/registry" ] || mkdir -p "$DPKG_ROOT/var/lib/registry"
[ -z "$DPKG_ROOT" ] || exit 0
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
# Of an upgrade: what runs is the old one.
systemctl try-restart regctl.service
