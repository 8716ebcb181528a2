#!/bin/sh
# Installs the Debian packages that the integration tests and benches need: only what is missing, and only as root on
# Debian. Anywhere else it names what is missing and fails, so that no test is skipped in silence.
set -eu

packages='
mosquitto:mosquitto
mosquitto-clients:mosquitto_sub
mbpoll:mbpoll
socat:socat
rabbitmq-server:/usr/lib/rabbitmq/bin/rabbitmq-server
python3-qpid-proton:/usr/lib/python3/dist-packages/proton/__init__.py
python3-pymodbus:/usr/lib/python3/dist-packages/pymodbus/__init__.py
e2fsprogs:mkfs.ext4
mount:losetup
util-linux:setpriv
curl:curl
gcc:gcc
libc6-dev:/usr/include/stdio.h
openssl:openssl
iproute2:ip
nftables:nft
procps:ps
systemd:systemd-notify
'

present() {
  case $1 in
    /*) [ -e "$1" ] ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
  esac
}

PATH=$PATH:/usr/sbin:/sbin
missing=
for entry in $packages; do
  present "${entry#*:}" || missing="$missing ${entry%%:*}"
done
if [ -z "$missing" ]; then
  echo 'setup: every package is there'
  exit 0
fi

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "setup: missing:$missing" >&2
  echo "setup: run 'sudo apt-get install --no-install-recommends$missing' or run this as root on Debian" >&2
  exit 1
fi

# The tests start brokers of their own; the distribution's must neither start nor hold ports 1883 and 5672.
new_services=
present mosquitto || new_services="$new_services mosquitto.service"
present /usr/lib/rabbitmq/bin/rabbitmq-server || new_services="$new_services rabbitmq-server.service epmd.socket epmd.service"
policy=
if [ -n "$new_services" ] && [ ! -e /usr/sbin/policy-rc.d ]; then
  policy=/usr/sbin/policy-rc.d
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi

echo "setup: installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of names
apt-get install -y -qq --no-install-recommends $missing >/dev/null

if [ -n "$new_services" ] && [ -d /run/systemd/system ]; then
  # shellcheck disable=SC2086 # a list of names
  systemctl disable --now $new_services >/dev/null 2>&1 || true
fi

for entry in $packages; do
  present "${entry#*:}" || {
    echo "setup: ${entry%%:*} was installed, but ${entry#*:} is not there" >&2
    exit 1
  }
done
echo 'setup: done'
