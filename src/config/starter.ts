// What a first start writes and runs: a simulated site, so that live values are seen without any device or account.

const STARTER = `# The configuration of this gateway. Every field is described in src/config/REFERENCE.md;
# \`fieldpost check FILE\` tells every fault, and a running gateway takes changes on SIGHUP.

# gateway: { id: plant-7 }     # its name upstream; default fieldpost- and six digits of this machine

adapters:
  # A simulated meter: a real Modbus TCP server on loopback, in a process of its own. Remove both entries when you
  # connect devices of your own.
  site:
    type: simulator
    listen: { address: 127.0.0.1, port: 5020 }

  meters:
    type: modbus
    transport: { kind: tcp, host: 127.0.0.1, port: 5020 }
    devices:
      meter-1:
        unit_id: 1
        poll_interval_ms: 1000
        points:
          voltage: { register: input:0, type: float32, unit: V }
          current: { register: input:2, type: float32, unit: A }
          power: { register: input:4, type: float32, unit: W }
          frequency: { register: input:6, type: float32, unit: Hz }
          energy: { register: input:8, type: uint32, scale: 0.001, unit: kWh }
          relay: { register: coil:0, writable: true }

# Where everything goes: a broker inside the gateway, for a first look. For a real one:
#   upstream:
#     type: mqtt
#     url: mqtts://broker.example:8883
#     username: plant-7
#     password: !env BROKER_PASSWORD
upstream:
  type: local

# The page with live values and the outbox.
web: { address: 127.0.0.1, port: 8080 }
`;

export function starterConfig(): string {
  return STARTER;
}
