// Faults of a configuration that the schema cannot express.

import {
  brokerClientFaults,
  checkDeviceShape,
  compilePattern,
  isDeviceId,
  isLoopbackHost,
  listenClaim,
  type Claim,
  type ConfigFault,
  type PointShapeConfig,
  type SiteFacts,
} from '#sdk';
import { topicFaults } from './check-topics.ts';
import type { ClientConfig, MqttConfig } from './config.ts';

export function checkMqtt(config: MqttConfig, site: SiteFacts): readonly ConfigFault[] {
  const listens = config.listen ?? config.listen_tls ?? config.listen_ws;
  if (config.connect === undefined && listens === undefined) {
    return [
      { path: [], message: 'needs `listen`, `listen_tls` or `listen_ws` to be a broker, or `connect` to use one' },
    ];
  }
  if (config.connect !== undefined && listens !== undefined) {
    return [{ path: ['connect'], message: 'cannot stand beside `listen`: an adapter is a broker or a client of one' }];
  }
  const faults: ConfigFault[] = [];
  if (config.topics.length === 0 && config.presets.length === 0) {
    faults.push({ path: ['topics'], message: 'is empty and there are no `presets`: nothing would be taken in' });
  }
  faults.push(
    ...topicFaults(config),
    ...commandFaults(config),
    ...writeFaults(config),
    ...shapeFaults(config),
    ...deviceFaults(config),
  );
  return [
    ...faults,
    ...(config.connect === undefined
      ? [...brokerFaults(config), ...gatewayFaults(config, site)]
      : clientFaults(config)),
  ];
}

/** The ports of the broker. */
export function mqttClaims({ listen, listen_tls, listen_ws }: MqttConfig): readonly Claim[] {
  return Object.entries({ listen, listen_tls, listen_ws }).flatMap(([name, at]) =>
    at === undefined ? [] : [listenClaim([name, 'port'], at)],
  );
}

function commandFaults({ command }: MqttConfig): ConfigFault[] {
  if (command === undefined) return [];
  const faults: ConfigFault[] = [];
  const fault = (field: string, message: string): void => void faults.push({ path: ['command', field], message });
  for (const field of ['response', 'refusal'] as const) {
    const pattern = command[field];
    if (pattern === undefined) continue;
    if (command.response_topic === undefined) fault(field, 'needs `response_topic`: without it no response is awaited');
    const compiled = compilePattern(pattern);
    if (typeof compiled === 'string') fault(field, compiled);
  }
  if (command.response !== undefined && command.response_pointer !== '') {
    fault('response_pointer', 'cannot stand beside `response`: the value confirms the write, or the pattern does');
  }
  return faults;
}

function writeFaults({ topics, command }: MqttConfig): ConfigFault[] {
  const faults: ConfigFault[] = [];
  for (const [index, { points = {} }] of topics.entries()) {
    for (const [name, { writable, write }] of Object.entries(points)) {
      const path = ['topics', index, 'points', name];
      if (writable && command === undefined) {
        faults.push({ path: [...path, 'writable'], message: 'needs `command` to be written by' });
      }
      if (!writable && write !== undefined) {
        const message = 'limits what may be written, but the point is not `writable: true`';
        faults.push({ path: [...path, 'write'], message });
      }
    }
  }
  return faults;
}

function deviceFaults({ devices, presets }: MqttConfig): ConfigFault[] {
  const faults: ConfigFault[] = [];
  const files = new Set<string>();
  for (const [id, { preset, capture }] of Object.entries(devices)) {
    if (preset !== undefined && !presets.includes(preset)) {
      faults.push({ path: ['devices', id, 'preset'], message: 'is none of the `presets` of the adapter' });
    }
    if (capture === undefined) continue;
    if (files.has(capture.file)) {
      faults.push({ path: ['devices', id, 'capture', 'file'], message: 'is the file of another device already' });
    }
    files.add(capture.file);
  }
  return faults;
}

/**
 * Every device has the points of all topics, so that a fault of one of them is told once, where it stands. What a preset's
 * devices have is only known when they speak: then an expression may name any point.
 */
function shapeFaults(config: MqttConfig): ConfigFault[] {
  const points: Record<string, PointShapeConfig> = {};
  const places = new Map<string, ConfigFault['path']>();
  for (const [index, topic] of config.topics.entries()) {
    for (const [name, point] of Object.entries(topic.points ?? {})) {
      points[name] = point;
      places.set(name, ['topics', index]);
    }
  }
  const faults = new Map<string, ConfigFault>();
  const hasOpenPoints = config.presets.length > 0;
  for (const [id, device] of [['', {}] as const, ...Object.entries(config.devices)]) {
    for (const { path, message } of checkDeviceShape({ device, adapter: config, points, hasOpenPoints })) {
      const [section, name] = path;
      const above = section === 'points' ? (places.get(String(name)) ?? []) : ['devices', id];
      const fault = { path: [...above, ...path], message };
      faults.set(JSON.stringify(fault), fault);
    }
  }
  return [...faults.values()];
}

function brokerFaults(config: MqttConfig): ConfigFault[] {
  const faults: ConfigFault[] = [];
  const { listen, listen_tls: tls, listen_ws: ws } = config;
  if (tls !== undefined && (tls.certificate === undefined || tls.key === undefined)) {
    faults.push({ path: ['listen_tls'], message: 'needs `certificate` and `key`' });
  }
  if (ws !== undefined && (ws.certificate === undefined) !== (ws.key === undefined)) {
    faults.push({ path: ['listen_ws'], message: 'needs `certificate` and `key` together' });
  }
  const clear = { listen, listen_ws: ws?.certificate === undefined ? ws : undefined };
  for (const [name, part] of Object.entries(clear)) {
    if (part === undefined || config.allow_plaintext || isLoopbackHost(part.address)) continue;
    faults.push({
      path: [name, 'address'],
      message: `lets credentials and data cross the network in clear; use TLS, or set \`allow_plaintext: true\``,
    });
  }
  if (config.clients.length === 0 && config.anonymous === 'none') {
    faults.push({ path: ['clients'], message: 'is empty and `anonymous` is none: nobody could connect' });
  }
  const names = new Map<string, number>();
  for (const [index, client] of config.clients.entries()) {
    if (names.has(client.username)) {
      faults.push({ path: ['clients', index, 'username'], message: `stands twice: ${client.username}` });
    }
    names.set(client.username, index);
    if ((client.password === undefined) === (client.password_hash === undefined)) {
      faults.push({ path: ['clients', index], message: 'needs either `password` or `password_hash`' });
    }
    faults.push(...idFaults(client, index));
  }
  return faults;
}

/** Of a client that could publish as no device, because no device can have such an id. */
function idFaults({ username, devices }: ClientConfig, index: number): ConfigFault[] {
  if (devices === undefined) {
    if (isDeviceId(username)) return [];
    const message =
      'can be the id of no device, so it could publish as none; list its `devices`, `[]` for a client that only subscribes';
    return [{ path: ['clients', index, 'username'], message }];
  }
  return devices.flatMap((id, at): ConfigFault[] =>
    id === '*' || isDeviceId(id)
      ? []
      : [{ path: ['clients', index, 'devices', at], message: 'can be the id of no device' }],
  );
}

/** A client may publish as the device of its user name unless `devices` says otherwise. */
function gatewayFaults({ clients }: MqttConfig, { gatewayId }: SiteFacts): ConfigFault[] {
  const message = `would let it publish as the gateway itself: "${gatewayId}" is the gateway's own device (gateway.id)`;
  return clients.flatMap(({ username, devices }, index): ConfigFault[] => {
    if (devices === undefined) {
      return username === gatewayId ? [{ path: ['clients', index, 'username'], message }] : [];
    }
    const at = devices.indexOf(gatewayId);
    return at < 0 ? [] : [{ path: ['clients', index, 'devices', at], message }];
  });
}

function clientFaults(config: MqttConfig): ConfigFault[] {
  const { connect } = config;
  if (connect === undefined) return [];
  const client = { ...connect, allow_plaintext: config.allow_plaintext };
  const faults = brokerClientFaults(client, 'mqtts', 'what is taken in goes into `topics`').map(
    ({ path, message }) => ({
      path: ['connect', ...path],
      message,
    }),
  );
  // MQTT 3.1.1, 3.1.2.9.
  if (connect.password !== undefined && connect.username === undefined) {
    faults.push({ path: ['connect', 'password'], message: 'needs `username` as well' });
  }
  if (config.clients.length > 0) {
    faults.push({ path: ['clients'], message: 'are for a broker of our own, not for `connect`' });
  }
  return faults;
}
