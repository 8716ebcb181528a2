// A whole site on the built daemon (site.yaml): serial, Modbus and MQTT devices, real ones as far as there are any, and all
// of them seen at the upstream broker.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { connectAsync, type MqttClient } from 'mqtt';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { SerialInstrument } from '../sim/serial-instrument.ts';
import { startTcpProxy, type TcpProxy } from '../sim/tcp-proxy.ts';
import { run } from '../support/command.ts';
import { freePort } from '../support/free-port.ts';
import { startMosquitto, type Mosquitto } from '../support/mosquitto.ts';
import { serialLine, type Line } from '../support/serial-line.ts';
import type { TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';
import { type DaemonProcess, startDaemon, temporaryDirectory } from './daemon-process.ts';

const ADDRESS = '127.0.72.1';
const PASSWORDS = {
  PUMP_PASSWORD: 'pump-secret',
  WEATHER_PASSWORD: 'weather-secret',
  WORKSHOP_PASSWORD: 'shop-secret',
};

interface Arrived {
  readonly device: string;
  readonly text: string;
  /** What it says when it is one of the gateway's own bodies. */
  readonly body: {
    readonly time?: string;
    readonly values?: Readonly<Record<string, unknown>>;
    readonly quality?: Readonly<Record<string, string>>;
  };
}

let directory: TempDir;
let line: Line;
let instrument: SerialInstrument;
let plc: ChildProcess;
let meter: ChildProcess;
let upstream: Mosquitto;
/** The line to the upstream broker, which can be cut without the broker forgetting who listens. */
let uplink: TcpProxy;
let witness: MqttClient;
let fieldPort: number;
let start: (args?: readonly string[]) => Promise<DaemonProcess>;
let arrived: Arrived[];
let responses: unknown[];

const from = (device: string): Arrived[] => arrived.filter((message) => message.device === device);

async function pymodbus(port: number): Promise<ChildProcess> {
  const script = join(import.meta.dirname, '..', 'sim', 'pymodbus-server.py');
  const args = [script, 'tcp', ADDRESS, String(port)];
  const child = spawn('/usr/bin/python3', args, { stdio: ['pipe', 'pipe', 'ignore'] });
  await once(child.stdout, 'data');
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

/** Resolves with whether the field broker acknowledged it. */
async function publish(user: 'pump' | 'weather' | 'workshop', topic: string, text: string): Promise<boolean> {
  const password = PASSWORDS[`${user.toUpperCase()}_PASSWORD` as keyof typeof PASSWORDS];
  const login = ['-h', ADDRESS, '-p', String(fieldPort), '-u', user, '-P', password];
  // A client that was cut off would try for ever.
  return run('timeout', ['5', 'mosquitto_pub', ...login, '-q', '1', '-t', topic, '-m', text]).then(
    () => true,
    () => false,
  );
}

function put(text: string, replacements: Readonly<Record<string, string>>): string {
  return Object.entries(replacements).reduce((whole, [from, to]) => {
    if (!whole.includes(from)) throw new Error(`site.yaml does not hold "${from}".`);
    return whole.replace(from, to);
  }, text);
}

beforeEach(async () => {
  directory = temporaryDirectory();
  line = await serialLine();
  instrument = await SerialInstrument.open({
    path: line.far,
    answer: (request) => (request === 'W' ? 'W 12.5 kg\r\n' : 'ERR\r\n'),
  });
  upstream = await startMosquitto({ address: ADDRESS });
  uplink = await startTcpProxy({ target: { host: ADDRESS, port: upstream.port }, address: '127.0.72.2' });
  fieldPort = await freePort(ADDRESS);
  const [plcPort, meterPort, webPort] = [await freePort(ADDRESS), await freePort(ADDRESS), await freePort(ADDRESS)];
  [plc, meter] = await Promise.all([pymodbus(plcPort), pymodbus(meterPort)]);
  meter.kill('SIGSTOP');
  const config = put(readFileSync(join(import.meta.dirname, 'site.yaml'), 'utf8'), {
    '/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A1-if00-port0': line.near,
    'host: 10.0.0.5, port: 502': `host: ${ADDRESS}, port: ${plcPort}`,
    'host: 10.0.0.6, port: 502': `host: ${ADDRESS}, port: ${meterPort}`,
    'address: 127.0.0.1, port: 1883': `address: ${ADDRESS}, port: ${fieldPort}`,
    'mqtt://127.0.0.1:1884': `mqtt://${uplink.address}:${uplink.port}`,
    'address: 127.0.0.1, port: 8080': `address: ${ADDRESS}, port: ${webPort}`,
  });
  start = (args = []) => startDaemon({ config, web: `${ADDRESS}:${webPort}`, directory, env: PASSWORDS, args });

  arrived = [];
  responses = [];
  witness = await connectAsync(upstream.url);
  witness.on('message', (topic, payload) => {
    const [, , device = '', kind] = topic.split('/');
    const text = payload.toString();
    if (kind === 'response') responses.push(JSON.parse(text));
    if (kind !== 'telemetry') return;
    arrived.push({ device, text, body: text.startsWith('{') ? (JSON.parse(text) as Arrived['body']) : {} });
  });
  await witness.subscribeAsync('fieldpost/plant-7/#', { qos: 1 });
});

afterEach(async () => {
  await witness.endAsync();
  await Promise.all([end(plc), end(meter), instrument[Symbol.asyncDispose]()]);
  await uplink.close();
  await upstream[Symbol.asyncDispose]();
  await line[Symbol.asyncDispose]();
  directory.remove();
});

it('brings the values of all devices to the upstream broker, and a write down to a coil', async () => {
  await using daemon = await start();
  expect(await publish('pump', 'pumps/pump/state', '{"flow":14.5}')).toBe(true);
  expect(await publish('weather', 'sensors/weather/telemetry', 'wind 7 SW')).toBe(true);
  expect(await publish('workshop', 'tele/plug/SENSOR', '{"ENERGY":{"Power":42}}')).toBe(true);
  // Nobody is another one.
  expect(await publish('pump', 'sensors/weather/telemetry', 'forged')).toBe(false);

  const values = (device: string): unknown => from(device).at(-1)?.body.values;
  await waitFor(() => ['scale', 'plc', 'pump', 'weather', 'plug', 'meter'].every((device) => from(device).length > 0), {
    timeoutMs: 30_000,
    what: 'a message of each device',
  });
  expect(values('scale')).toEqual({ weight: 12.5 });
  expect(values('plc')).toEqual({ relay: false, level: 5 });
  expect(values('pump')).toEqual({ flow: 14.5 });
  expect(from('weather').map(({ text }) => text)).toEqual(['wind 7 SW']);
  expect(Object.values(values('plug') as object)).toEqual([42]);

  const command = ['-t', 'fieldpost/plant-7/plc/command/write', '-m', '{"id":"42","values":{"relay":true}}'];
  await run('mosquitto_pub', ['-h', ADDRESS, '-p', String(upstream.port), '-q', '1', ...command]);
  await waitFor(() => responses.length > 0, { what: 'the response' });
  expect(responses).toEqual([{ id: '42', status: 200, values: { relay: true } }]);
  const relay = (): unknown => from('plc').at(-1)?.body.values?.['relay'];
  await waitFor(() => relay() === true, { what: 'the coil in the values' });

  // The dead one: told once, and nobody waits for it. Its requests time out after two seconds.
  const polls = from('plc').length;
  await waitFor(() => from('plc').length >= polls + 20, { timeoutMs: 20_000, what: 'twenty polls more' });
  expect(from('meter').map(({ body }) => body)).toMatchObject([{ values: {}, quality: { voltage: 'bad:timeout' } }]);
  for (const device of ['plc', 'scale']) {
    const times = from(device).map(({ body }) => Date.parse(body.time ?? ''));
    const gaps = times.slice(1).map((time, index) => time - (times[index] ?? time));
    expect(Math.max(...gaps)).toBeLessThan(1900);
  }
  const health = (await (await daemon.get('/health')).json()) as { reasons: { part: string }[] };
  expect(health.reasons.map(({ part }) => part)).toEqual([expect.stringContaining('meter-line')]);
});

it('loses nothing that was acknowledged when it is killed in the middle', async () => {
  const acknowledged: string[] = [];
  let isOver = false;
  async function keepPublishing(): Promise<void> {
    for (let count = 0; !isOver; count += 1) {
      const text = `wind ${count}`;
      if (await publish('weather', 'sensors/weather/telemetry', text)) acknowledged.push(text);
    }
  }
  const first = await start();
  const publishing = keepPublishing();
  await waitFor(() => acknowledged.length >= 20, { timeoutMs: 30_000, what: 'twenty acknowledgements' });
  // With the upstream gone, what is acknowledged is on the disk and nowhere else.
  await uplink.refuse();
  const before = acknowledged.length;
  await waitFor(() => acknowledged.length >= before + 20, {
    timeoutMs: 30_000,
    what: 'acknowledgements without upstream',
  });
  await first.kill('SIGKILL');
  await uplink.listen();
  await using _second = await start();
  const after = acknowledged.length;
  await waitFor(() => acknowledged.length >= after + 10, {
    timeoutMs: 30_000,
    what: 'acknowledgements after the restart',
  });
  isOver = true;
  await publishing;
  const missing = (): string[] => {
    const seen = new Set(from('weather').map(({ text }) => text));
    return acknowledged.filter((text) => !seen.has(text));
  };
  await waitFor(() => missing().length === 0, { timeoutMs: 30_000, what: 'all that was acknowledged' }).catch(() => {});
  expect(missing()).toEqual([]);
  expect(from('scale').at(-1)?.body.values).toEqual({ weight: 12.5 });
});

it('runs on a desk: with --simulate all configured devices have values and nothing is asked', async () => {
  await using daemon = await start(['--simulate']);
  const devices = ['scale', 'plc', 'meter', 'pump'];
  await waitFor(() => devices.every((device) => from(device).length > 1), {
    timeoutMs: 20_000,
    what: 'values of all configured devices',
  });
  const number = expect.any(Number) as number;
  const values = devices.map((device) => from(device).at(-1)?.body.values);
  expect(values).toEqual([{ weight: number }, { relay: false, level: number }, { voltage: number }, { flow: number }]);
  expect(instrument.requests).toEqual([]);
  expect(await publish('pump', 'pumps/pump/state', '{"flow":1}')).toBe(false);
  const health = (await (await daemon.get('/health')).json()) as { reasons: { reason: string }[] };
  expect(health.reasons).toHaveLength(4);
  for (const { reason } of health.reasons) expect(reason).toContain('simulated');
});
