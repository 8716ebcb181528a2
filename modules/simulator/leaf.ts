// The MQTT leaf device of the simulated site: a greenhouse that tells its climate every second and has a lamp to switch.

import { setInterval as every } from 'node:timers/promises';
import mqtt from 'mqtt';

export interface LeafOptions {
  readonly url: string;
  readonly deviceId: string;
}

const EVERY_MS = 1000;
const RECONNECT_MS = 2000;
/** One day of the greenhouse, so that something is to be seen. */
const DAY_MS = 600_000;

/** Tries the broker for ever; while it is away nothing is told. Ends with the process, and never before. */
export async function runLeaf({ url, deviceId }: LeafOptions): Promise<void> {
  const topic = (name: string): string => `site/${deviceId}/${name}`;
  let lamp = false;
  const client = mqtt.connect(url, {
    clientId: deviceId,
    protocolVersion: 4,
    reconnectPeriod: RECONNECT_MS,
    // What was not sent is old: the next second has a newer one.
    queueQoSZero: false,
    will: { topic: topic('online'), payload: Buffer.from('false'), qos: 1, retain: true },
  });
  const tell = (): void => {
    if (client.connected) client.publish(topic('state'), JSON.stringify(climate(performance.now(), lamp)), { qos: 1 });
  };
  // The broker may start later than the device.
  client.on('error', () => {});
  client.on('connect', () => {
    client.publish(topic('online'), 'true', { qos: 1, retain: true });
    client.subscribe(topic('set'), { qos: 0 });
    tell();
  });
  client.on('message', (_topic, payload) => {
    lamp = lampAfter(payload.toString(), lamp);
    tell();
  });
  for await (const _ of every(EVERY_MS)) tell();
}

/** `{"lamp":true}` switches it; anything else leaves it. */
export function lampAfter(command: string, lamp: boolean): boolean {
  try {
    const { lamp: wanted } = JSON.parse(command) as { lamp?: unknown };
    return typeof wanted === 'boolean' ? wanted : lamp;
  } catch {
    return lamp;
  }
}

/** In °C and percent; the lamp warms. */
export function climate(runMs: number, lamp: boolean): { temperature: number; humidity: number; lamp: boolean } {
  const sun = Math.sin((runMs / DAY_MS) * 2 * Math.PI);
  const temperature = 21 + 4 * sun + (lamp ? 2.5 : 0);
  return { temperature: Math.round(temperature * 10) / 10, humidity: Math.round(62 - 12 * sun), lamp };
}
