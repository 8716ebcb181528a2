// Values and simulated servers against programs that nobody here wrote: mbpoll (libmodbus) and pymodbus.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { SerialPort } from 'serialport';
import { afterEach, describe, expect, it } from 'vitest';
import { pointSchema } from '../../modules/modbus/config-point.ts';
import { compilePoint } from '../../modules/modbus/values.ts';
import { createSimulator } from '../../modules/simulator/adapter.ts';
import { simulatorConfig } from '../../modules/simulator/config.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import type { Adapter, AdapterContext, Logger } from '../../src/sdk/index.ts';
import { ModbusServer, type ModbusServerOptions, startModbusServer } from '../sim/modbus-server.ts';
import { freePort } from '../support/free-port.ts';
import { waitFor } from '../support/wait.ts';

const run = promisify(execFile);
const PYTHON = '/usr/bin/python3';
const ORACLE = new URL('../sim/pymodbus-oracle.py', import.meta.url).pathname;
const HOST = '127.0.41.1';

const ORDERS = ['ABCD', 'CDAB', 'BADC', 'DCBA'] as const;

const VALUES: Readonly<Record<string, readonly (number | bigint)[]>> = {
  int16: [0, 1, -1, 258, -32_768, 32_767],
  uint16: [0, 1, 258, 65_535],
  int32: [0, -1, 16_909_060, -2_147_483_648, 2_147_483_647],
  uint32: [0, 16_909_060, 4_294_967_295],
  int64: [0, -1, 72_623_859_790_382_856n, -(2n ** 63n), 2n ** 63n - 1n, 2 ** 53 - 1, -(2 ** 53 - 1)],
  uint64: [0, 72_623_859_790_382_856n, 2n ** 64n - 1n, 2 ** 53 - 1, 2n ** 53n],
  float16: [0, 1, -2, 0.1, 65_504, 0.3333],
  float32: [0, 1, -1.5, 230.1, 3.4e38, 1.17549e-38, 0.1, 123_456.7],
  float64: [0, 1, -1.5, 230.1, 1.797e308, 5e-324, Math.PI],
};

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function server(options: ModbusServerOptions = {}): Promise<ModbusServer> {
  const started = await startModbusServer({ host: HOST, ...options });
  closers.push(() => started.close());
  return started;
}

function point(type: string, order: string, address = 0): ReturnType<typeof compilePoint> {
  return compilePoint('p', pointSchema.parse({ register: `holding:${address}`, type, writable: true }), order);
}

function registers(type: string, order: string, value: number | bigint): readonly number[] {
  const write = point(type, order).encode(value);
  if (write.kind !== 'registers') throw new Error('registers expected');
  return write.values;
}

function bytes(words: readonly number[]): Buffer {
  const buffer = Buffer.alloc(words.length * 2);
  for (const [index, word] of words.entries()) buffer.writeUInt16BE(word, index * 2);
  return buffer;
}

/** Values by reference, as mbpoll prints them. */
async function mbpoll(args: readonly string[], values: readonly string[] = []): Promise<Map<number, string>> {
  const { stdout } = await run('mbpoll', ['-0', '-1', ...args, ...(values.length === 0 ? [] : ['--', ...values])]);
  const found = [...stdout.matchAll(/^\[(\d+)\]:\s+(\S+)/gm)];
  return new Map(found.map(([, reference, value]) => [Number(reference), value ?? '']));
}

function tcp(to: ModbusServer): string[] {
  return ['-m', 'tcp', '-p', String(to.port), '-a', '1', to.host];
}

it('encodes and decodes every type in every order as pymodbus does', async () => {
  const cases = Object.entries(VALUES).flatMap(([type, values]) =>
    ORDERS.flatMap((order) => values.map((value) => ({ type, order, value }))),
  );
  const child = spawn(PYTHON, [ORACLE, 'codec'], { stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdin.end(JSON.stringify(cases.map(({ order, type, value }) => [order, type, String(value)])));
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  await once(child, 'close');
  const answers = JSON.parse(output) as string[];
  expect(answers).toHaveLength(cases.length);
  expect(cases.length).toBeGreaterThan(150);
  for (const [index, { type, order, value }] of cases.entries()) {
    const theirs = answers[index] ?? '';
    expect(bytes(registers(type, order, value)).toString('hex'), `${type} ${order} ${value}`).toBe(theirs);
    expect(point(type, order).read(Buffer.from(theirs, 'hex'), 0).value, `${type} ${order} ${value}`).toBe(value);
  }
});

describe('mbpoll', () => {
  it('reads from the simulated server what the adapter encodes', async () => {
    const sim = await server();
    const device = sim.addDevice(1);
    const floats = [230.1, -0.5, 1e10, 0];
    const integers = [1, -1, 2_147_483_647, -2_147_483_648];
    for (const [index, value] of floats.entries()) {
      device.set('holding', index * 2, registers('float32', 'ABCD', value));
      device.set('input', index * 2, registers('float32', 'CDAB', value));
    }
    for (const [index, value] of integers.entries()) {
      device.set('holding', 100 + index * 2, registers('int32', 'ABCD', value));
      device.set('holding', 200 + index * 2, registers('int32', 'CDAB', value));
    }
    device.set('holding', 300, [0xbeef]);
    const numbers = async (args: readonly string[]): Promise<number[]> =>
      [...(await mbpoll([...args, ...tcp(sim)])).values()].map(Number);
    expect(await numbers(['-t', '4:float', '-B', '-r', '0', '-c', '4'])).toEqual(floats);
    expect(await numbers(['-t', '3:float', '-r', '0', '-c', '4'])).toEqual(floats);
    expect(await numbers(['-t', '4:int', '-B', '-r', '100', '-c', '4'])).toEqual(integers);
    expect(await numbers(['-t', '4:int', '-r', '200', '-c', '4'])).toEqual(integers);
    expect((await mbpoll(['-t', '4:hex', '-r', '300', ...tcp(sim)])).get(300)).toBe('0xBEEF');
  });

  it('writes to the simulated server what the adapter decodes', async () => {
    const sim = await server();
    const device = sim.addDevice(1);
    await mbpoll(['-t', '4:float', '-B', '-r', '10', ...tcp(sim)], ['230.1', '-7.25']);
    expect(point('float32', 'ABCD', 10).read(bytes([...device.holding.subarray(10, 14)]), 10).value).toBe(230.1);
    expect(point('float32', 'ABCD', 12).read(bytes([...device.holding.subarray(10, 14)]), 10).value).toBe(-7.25);
    await mbpoll(['-t', '4', '-r', '20', ...tcp(sim)], ['4660']);
    expect(device.holding[20]).toBe(0x1234);
    await mbpoll(['-t', '0', '-r', '5', ...tcp(sim)], ['1']);
    await mbpoll(['-t', '0', '-r', '8', ...tcp(sim)], ['1', '0', '1']);
    expect([...device.coil.subarray(4, 12)]).toEqual([0, 1, 0, 0, 1, 0, 1, 0]);
    expect(new Set(sim.requests.map((request) => request.functionCode))).toEqual(new Set([5, 6, 15, 16]));
    expect([...(await mbpoll(['-t', '0', '-r', '4', '-c', '8', ...tcp(sim)])).values()].join('')).toBe('01001010');
  });

  it('hears of refused addresses', async () => {
    const sim = await server();
    sim.addDevice(1, { illegal: { holding: [[5, 6]] } });
    await expect(mbpoll(['-t', '4', '-r', '4', '-c', '2', ...tcp(sim)])).rejects.toThrow(/Illegal data address/);
    expect((await mbpoll(['-t', '4', '-r', '7', ...tcp(sim)])).get(7)).toBe('0');
  });

  it('talks RTU to the simulated server over a pseudo-terminal', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'fieldpost-oracle-'));
    closers.push(() => rm(folder, { recursive: true, force: true }));
    const [ours, theirs] = [join(folder, 'ours'), join(folder, 'theirs')];
    const socat = spawn('socat', [`pty,raw,echo=0,link=${ours}`, `pty,raw,echo=0,link=${theirs}`]);
    closers.push(async () => {
      socat.kill();
      if (socat.exitCode === null && socat.signalCode === null) await once(socat, 'exit');
    });
    const port = await waitFor(() => openSerial(ours), { what: 'the pseudo-terminal' });
    closers.push(() => new Promise<void>((resolve) => port.close(() => resolve())));
    const sim = new ModbusServer({ framing: 'rtu' });
    const device = sim.addDevice(17);
    device.set('input', 40, registers('float32', 'ABCD', 49.98));
    sim.serve(port);
    const line = ['-m', 'rtu', '-a', '17', '-b', '19200', '-P', 'none', theirs];
    expect(Number((await mbpoll(['-t', '3:float', '-B', '-r', '40', ...line])).get(40))).toBe(49.98);
    await mbpoll(['-t', '4', '-r', '3', ...line], ['513', '1027']);
    expect([...device.holding.subarray(3, 5)]).toEqual([513, 1027]);
  });
});

async function openSerial(path: string): Promise<SerialPort | undefined> {
  const port = new SerialPort({ path, baudRate: 19_200, autoOpen: false });
  return new Promise((resolve) => port.open((error) => resolve(error === null ? port : undefined)));
}

describe('the client of pymodbus', () => {
  it.each(['tcp', 'rtu', 'ascii'] as const)(
    'gets the specified answers from the simulated server in %s',
    async (kind) => {
      const sim = await server({ framing: kind === 'tcp' ? 'mbap' : kind });
      const device = sim.addDevice(1, {
        illegal: { holding: [[501, 501]] },
        identification: new Map([
          [0, 'Fieldpost'],
          [1, 'SIM'],
          [2, '1.0'],
        ]),
      });
      device.coil.set([1, 0, 0, 1, 1], 3);
      device.discrete.set([1, 1, 0, 0, 0, 0, 0, 0, 1]);
      device.set(
        'holding',
        0,
        Array.from({ length: 125 }, (_, index) => 65_535 - index),
      );
      device.set('holding', 40, [0x12]);
      device.set('holding', 50, [6, 0, 0]);
      device.set('input', 7, [0x1234, 0xabcd]);
      const holding = [...device.holding.subarray(0, 125)];
      const { stdout } = await run(PYTHON, [ORACLE, 'client', kind, sim.host, String(sim.port)]);
      expect(JSON.parse(stdout)).toEqual({
        coils: [true, false, false, true, true, false, false, false, false, false],
        discretes: [true, true, false, false, false, false, false, false, true],
        holding,
        input: [0x1234, 0xabcd],
        illegal: 'exception 2',
        written_coils: [true, true, false, true, true, false, true, true, true, true, true],
        written_registers: [0xbeef, 1, 2, 0xffff],
        // The example of section 6.16: 0x12 AND 0xF2 OR (0x25 AND NOT 0xF2) is 0x17.
        masked: [0x17],
        read_write: [6, 7, 8],
        identification: { 0: 'Fieldpost', 1: 'SIM', 2: '1.0' },
      });
    },
  );
});

describe('the simulated site', () => {
  const signal = new AbortController().signal;

  async function site(port: number): Promise<Adapter> {
    const silent: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => silent };
    const context = { clock: new SystemClock(), log: silent } as Partial<AdapterContext> as AdapterContext;
    const adapter = createSimulator(simulatorConfig.parse({ listen: { address: HOST, port } }), context);
    closers.push(() => adapter.stop(signal));
    await adapter.start(signal);
    return adapter;
  }

  const meter = (port: number): string[] => ['-m', 'tcp', '-p', String(port), '-a', '1', HOST];

  async function watts(port: number): Promise<number> {
    return Number((await mbpoll(['-t', '3:float', '-B', '-r', '4', ...meter(port)])).get(4));
  }

  it('shows mbpoll a plausible meter whose relay works', async () => {
    const port = await freePort(HOST);
    const adapter = await site(port);
    expect(adapter.health()).toEqual({ status: 'running' });
    const values = await mbpoll(['-t', '3:float', '-B', '-r', '0', '-c', '4', ...meter(port)]);
    const [volts = 0, amperes = 0, power = 0, hertz = 0] = [...values.values()].map(Number);
    expect(volts).toBeGreaterThan(220);
    expect(volts).toBeLessThan(240);
    expect(hertz).toBeGreaterThan(49.9);
    expect(hertz).toBeLessThan(50.1);
    expect(Math.abs(volts * amperes * 0.93 - power)).toBeLessThan(power / 50);
    await waitFor(async () => (await watts(port)) !== power, { what: 'the power to move', everyMs: 200 });
    await mbpoll(['-t', '0', '-r', '0', ...meter(port)], ['0']);
    expect(await watts(port)).toBe(0);
    await mbpoll(['-t', '0', '-r', '0', ...meter(port)], ['1']);
    expect(await watts(port)).toBeGreaterThan(500);
    await expect(mbpoll(['-t', '3', '-r', '12', ...meter(port)])).rejects.toThrow(/Illegal data address/);
    await adapter.stop(signal);
    expect(adapter.health().status).toBe('stopped');
    await expect(mbpoll(['-t', '3', '-r', '0', ...meter(port)])).rejects.toThrow(/refused/);
  });

  it('is degraded while its port is in use, and comes up when it is free', async () => {
    const port = await freePort(HOST);
    const other = createServer().listen(port, HOST);
    await once(other, 'listening');
    const adapter = await site(port);
    expect(adapter.health()).toMatchObject({ status: 'degraded', reason: expect.stringMatching(/port is in use/) });
    other.close();
    await waitFor(() => adapter.health().status === 'running', { what: 'the site to listen' });
    expect(await watts(port)).toBeGreaterThan(0);
  });

  it('starts its process again when that is killed', async () => {
    const port = await freePort(HOST);
    const adapter = await site(port);
    const [child] = await childrenWith(`"port":${port}`);
    process.kill(child ?? 0, 'SIGKILL');
    await waitFor(() => adapter.health().status === 'degraded', { what: 'the end to show' });
    await waitFor(() => adapter.health().status === 'running', { what: 'the new process' });
    expect(await watts(port)).toBeGreaterThan(0);
  });

  it('dies with the gateway, even when that is killed', async () => {
    const port = await freePort(HOST);
    const script = new URL('../../modules/simulator/server.ts', import.meta.url).pathname;
    const options = JSON.stringify({ address: HOST, port, startWallMs: 0 });
    const code = `const { fork } = require('node:child_process');
      const child = fork(${JSON.stringify(script)}, [${JSON.stringify(options)}], { execArgv: [] });
      child.on('message', () => console.log(child.pid));`;
    const parent = spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'pipe', 'inherit'] });
    const [line] = (await once(parent.stdout, 'data')) as [Buffer];
    const child = Number(line.toString());
    expect(isAlive(child)).toBe(true);
    parent.kill('SIGKILL');
    await waitFor(() => !isAlive(child), { what: 'the child to end' });
  });
});

/** Our child processes whose command line has the text. */
async function childrenWith(text: string): Promise<number[]> {
  const { stdout } = await run('ps', ['-o', 'pid=,args=', '--ppid', String(process.pid)]);
  return stdout
    .split('\n')
    .filter((line) => line.includes(text))
    .map((line) => Number.parseInt(line, 10));
}

/** Dead processes that nobody has asked after yet count as dead. */
function isAlive(processId: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX] /.test(readFileSync(`/proc/${processId}/stat`, 'utf8'));
  } catch {
    return false;
  }
}
