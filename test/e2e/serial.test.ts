// Serial instruments on the built daemon: one that is asked and can be set, one that speaks by itself, seen from the
// upstream broker, through a pulled cable and a killed daemon.

import { afterEach, beforeEach, expect, it } from 'vitest';
import { SerialInstrument } from '../sim/serial-instrument.ts';
import { run } from '../support/command.ts';
import { freePort } from '../support/free-port.ts';
import { type Mosquitto, startMosquitto } from '../support/mosquitto.ts';
import { parsePrometheus } from '../support/prometheus.ts';
import { type Line, serialLine } from '../support/serial-line.ts';
import type { TempDir } from '../support/temp-dir.ts';
import { subscribe } from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';
import { type DaemonProcess, runFieldpost, startDaemon, temporaryDirectory } from './daemon-process.ts';

const ADDRESS = '127.0.94.1';

interface Body {
  readonly epoch: string;
  readonly seq: number;
  readonly values: Readonly<Record<string, number>>;
  readonly quality?: Readonly<Record<string, string>>;
}

let directory: TempDir;
let scaleLine: Line;
let windLine: Line;
let scale: SerialInstrument;
let wind: SerialInstrument;
let broker: Mosquitto;
let witness: Awaited<ReturnType<typeof subscribe>>;
let start: () => Promise<DaemonProcess>;
let limit: string;

/** Weighs, and keeps a limit. */
function answer(request: string): string | undefined {
  if (request === 'W') return 'W 12.5 kg\r\n';
  if (request === 'L?') return `L ${limit}\r\n`;
  if (!/^L\d{3}\.\d\d$/.test(request)) return 'ERR\r\n';
  limit = request.slice(1);
  return 'OK\r\n';
}

const bodies = (device: string): Body[] =>
  witness.received
    .filter(({ topic }) => topic === `fieldpost/plant-7/${device}/telemetry`)
    .map(({ text }) => JSON.parse(text) as Body);

/** The newest that is said of a point: its value, or why there is none. Each request has a message of its own. */
function newest(device: string, point: string): number | string | undefined {
  const said = bodies(device).flatMap(({ values, quality }) => values[point] ?? quality?.[point] ?? []);
  return said.at(-1);
}

/** The answer to a write, as a back end sees it. */
async function write(id: string, values: object): Promise<unknown> {
  const answers = (): unknown[] =>
    witness.received
      .filter(({ topic }) => topic === `fieldpost/plant-7/scale/response/${id}`)
      .map(({ text }) => JSON.parse(text) as unknown);
  const before = answers().length;
  await send(id, values);
  await waitFor(() => answers().length > before, { timeoutMs: 20_000, what: `the answer to ${id}` });
  return answers().at(-1);
}

function send(id: string, values: object): Promise<string> {
  const where = ['-h', broker.address, '-p', String(broker.port), '-t', 'fieldpost/plant-7/scale/command/write'];
  return run('mosquitto_pub', [...where, '-q', '1', '-m', JSON.stringify({ id, values })]);
}

/** Why the gateway is degraded. */
async function reasons(daemon: DaemonProcess): Promise<string> {
  const health = (await (await daemon.get('/health')).json()) as { reasons: { part: string; reason: string }[] };
  return health.reasons.map(({ part, reason }) => `${part}: ${reason}`).join(' ');
}

beforeEach(async () => {
  limit = '000.00';
  directory = temporaryDirectory();
  [scaleLine, windLine] = await Promise.all([serialLine(), serialLine()]);
  scale = await SerialInstrument.open({ path: scaleLine.far, answer });
  wind = await SerialInstrument.open({ path: windLine.far, answer: () => undefined });
  broker = await startMosquitto({ address: ADDRESS });
  witness = await subscribe(broker.url);
  const webPort = await freePort(ADDRESS);
  const config = `
gateway: { id: plant-7 }
adapters:
  scale-line:
    type: serial
    path: ${scaleLine.near}
    devices:
      scale:
        poll_interval_ms: 200
        timeout_ms: 2000
        requests:
          - { request: "W\\r\\n", decode: { kind: regex, pattern: '^W (?<weight>[0-9.]+) kg$', types: { weight: number } } }
          - { request: "L?\\r\\n", decode: { kind: regex, pattern: '^L (?<limit>[0-9.]+)$', types: { limit: number } } }
        points:
          weight: { unit: kg }
          limit: { min: 0, max: 150, write: { template: "L{value:06.2f}\\r\\n", response: '^OK' } }
  wind-line:
    type: serial
    path: ${windLine.near}
    devices:
      wind: { decode: { kind: delimited, fields: [null, count], types: { count: integer } } }
upstream: { type: mqtt, url: '${broker.url}' }
outbox: { min_free_bytes: 0 }
web: { address: ${ADDRESS}, port: ${webPort} }
`;
  start = () => startDaemon({ config, web: `${ADDRESS}:${webPort}`, directory });
});

afterEach(async () => {
  await witness[Symbol.asyncDispose]();
  await broker[Symbol.asyncDispose]();
  await Promise.all([scale[Symbol.asyncDispose](), wind[Symbol.asyncDispose]()]);
  await Promise.all([scaleLine[Symbol.asyncDispose](), windLine[Symbol.asyncDispose]()]);
  directory.remove();
});

it('asks, listens and writes; a pulled cable is told, harms nobody else, and heals', async () => {
  await using daemon = await start();
  await waitFor(() => newest('scale', 'weight') === 12.5, { timeoutMs: 20_000, what: 'the weight' });
  await wind.say('N,1\r\n');
  await waitFor(() => newest('wind', 'count') === 1, { what: 'the wind' });
  expect(await write('1', { limit: 42.25 })).toEqual({ id: '1', status: 200, values: { limit: 42.25 } });
  expect(limit).toBe('042.25');
  await waitFor(() => newest('scale', 'limit') === 42.25, { what: 'the limit in the values' });
  expect(await write('2', { limit: 151 })).toMatchObject({ id: '2', status: 400 });
  scale.answer = (request) => (request === 'L010.00' ? 'ERR 7\r\n' : answer(request));
  expect(await write('3', { limit: 10 })).toMatchObject({ id: '3', status: 502, code: 'refused' });

  const target = ['scan', 'serial', '--path', scaleLine.near, '--listen-ms', '1000', '--data', daemon.dataDirectory];
  const scan = await runFieldpost(target);
  expect(scan.err).toContain(`${scaleLine.near} is in use by adapter "scale-line" of this gateway: heard beside it`);
  expect(scan.out).toContain('baud rate: 9600\n');

  await scaleLine.unplug();
  await scale[Symbol.asyncDispose]();
  await waitFor(() => newest('scale', 'weight') === 'bad:disconnected', { what: 'the pulled cable' });
  await waitFor(
    async () => (await reasons(daemon)).includes(`${scaleLine.near} does not exist or has no device (ENOENT).`),
    {
      what: 'the reason in the health',
    },
  );
  expect(await write('4', { limit: 20 })).toMatchObject({ id: '4', status: 504, code: 'GW_DEVICE_OFFLINE' });
  await wind.say('N,2\r\n');
  await waitFor(() => newest('wind', 'count') === 2, { what: 'the other line' });

  await scaleLine.plug();
  scale = await SerialInstrument.open({ path: scaleLine.far, answer });
  await waitFor(() => newest('scale', 'weight') === 12.5, { what: 'the weight again' });
  // It is good once each of its requests is answered.
  await waitFor(() => newest('scale', 'limit') === 42.25, { what: 'the limit again' });
  expect(await write('5', { limit: 30 })).toEqual({ id: '5', status: 200, values: { limit: 30 } });
  expect(await reasons(daemon)).toBe('');
});

it('is killed in the middle: nothing that was stored is missing, and a write is not done twice', async () => {
  let count = 0;
  let isOver = false;
  async function keepSpeaking(): Promise<void> {
    while (!isOver) await wind.say(`N,${(count += 1)}\r\n`);
  }
  const first = await start();
  // Also when the test fails: it would speak for ever.
  await using _silence = { [Symbol.asyncDispose]: () => Promise.resolve(void (isOver = true)) };
  const speaking = keepSpeaking();
  await waitFor(() => bodies('wind').length >= 50, { timeoutMs: 20_000, what: 'fifty values' });
  await waitFor(() => newest('scale', 'weight') === 12.5, { what: 'the weight' });
  // It obeys, and does not say so.
  scale.answer = (request) => {
    const text = answer(request);
    return request === 'L077.00' ? undefined : text;
  };
  const writes = (): number => scale.requests.filter((request) => request === 'L077.00').length;
  await send('slow', { limit: 77 });
  await waitFor(() => writes() === 1, { timeoutMs: 20_000, what: 'the write to be under way' });
  const metrics = parsePrometheus(await (await first.get('/metrics')).text());
  const used = (name: string): number | undefined => metrics.value('fieldpost_limit_used', { name });
  expect([used('downlink_commands'), used('command_records'), used('audit_records')]).toEqual([1, 1, 1]);
  await first.kill('SIGKILL');
  const before = bodies('wind').length;

  await using _second = await start();
  await waitFor(() => bodies('wind').length >= before + 50, { timeoutMs: 20_000, what: 'fifty values more' });
  expect(await write('slow', { limit: 77 })).toMatchObject({ id: 'slow', status: 500, code: 'GW_COMMAND_UNKNOWN' });
  expect(writes()).toBe(1);
  isOver = true;
  await speaking;
  await waitFor(() => newest('wind', 'count') === count, { what: 'the last value' });

  // Each value once by its identity, numbered without a gap over the restart, in the order in which they were spoken.
  const bySeq = new Map(bodies('wind').map((body) => [body.seq, body]));
  const seqs = [...bySeq.keys()].sort((left, right) => left - right);
  expect(seqs).toEqual(seqs.map((_seq, index) => index + 1));
  expect(new Set(bodies('wind').map(({ epoch }) => epoch)).size).toBe(1);
  const counts = seqs.flatMap((seq) => bySeq.get(seq)?.values['count'] ?? []);
  expect(counts).toEqual([...new Set(counts)].sort((left, right) => left - right));
});
