// What a first start writes and runs: a simulated site, so that live values are seen without any device or account.

const STARTER = `# The configuration of this gateway. Every field is described in src/config/REFERENCE.md;
# \`fieldpost check FILE\` tells every fault, and a running gateway takes changes on SIGHUP.

# gateway: { id: plant-7 }     # its name upstream; default fieldpost- and six digits of this machine

adapters:
  # A simulated site: a real Modbus TCP server on loopback, in a process of its own, with a meter and a tank, a scale
  # on a pseudo-terminal, and a greenhouse that speaks MQTT. Remove these entries when you connect devices of your own.
  site:
    type: simulator
    listen: { address: 127.0.0.1, port: 5020 }
    leaf: { url: 'mqtt://127.0.0.1:1883', device_id: greenhouse-1 }
    scale: { path: site-scale.tty }

  site-bus:
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
          energy: { register: input:8, type: uint64, scale: 0.01, unit: kWh }
          relay: { register: coil:0, writable: true }
      tank-1:
        unit_id: 2
        poll_interval_ms: 2000
        points:
          level: { register: input:0, type: float32, unit: l }
          temperature: { register: input:2, type: int16, scale: 0.1, unit: °C }
          pump: { register: coil:0, writable: true }
          pump_speed: { register: holding:0, type: uint16, unit: "%", min: 0, max: 100, writable: true }

  # A broker for devices that speak MQTT; so far only the greenhouse of the simulated site does.
  field-broker:
    type: mqtt
    listen: { address: 127.0.0.1, port: 1883 }
    anonymous: loopback
    topics:
      - topic: "site/{device_id}/state"
        points:
          temperature: { pointer: /temperature, type: number, unit: °C }
          humidity: { pointer: /humidity, type: number, unit: "%" }
          lamp: { pointer: /lamp, type: boolean, writable: true }
    availability: [{ topic: "site/{device_id}/online", online: "true", offline: "false" }]
    command: { topic: "site/{device_id}/set" }
    devices: { greenhouse-1: {} }

  site-scale:
    type: serial
    path: site-scale.tty        # a real one: /dev/serial/by-id/…
    framing: { kind: readline }
    devices:
      scale-1:
        requests:
          - request: "W\\r\\n"
            decode: { kind: regex, pattern: '^W (?<weight>[-0-9.]+) kg$', types: { weight: number } }
          - request: "L?\\r\\n"
            decode: { kind: regex, pattern: '^L (?<limit>[0-9.]+) kg$', types: { limit: number } }
            poll_interval_ms: 10000
        points:
          weight: { unit: kg }
          limit: { unit: kg, min: 0, max: 150, write: { template: "L{value:06.2f}\\r\\n", response: '^OK' } }

# Where everything goes: Azure IoT Hub on this machine. Devices of the site are its devices; devices and back ends on the SDKs of
# Azure IoT Hub connect with what \`fieldpost hub connection-string\` prints. The SDKs know no other ports than these; where 443
# may not be opened (it needs root, or the right to open ports below 1024) the hub goes on without HTTPS, and says so.
hub:
  enabled: true
  host_name: localhost
  mqtts_port: 8883
  amqps_port: 5671
  https_port: 443

# To a real broker, beside the hub or instead of it:
#   upstream:
#     type: mqtt
#     url: mqtts://broker.example:8883
#     username: plant-7
#     password: !env BROKER_PASSWORD

# The page with live values and the outbox.
web: { address: 127.0.0.1, port: 8080 }
`;

export function starterConfig(): string {
  return STARTER;
}
