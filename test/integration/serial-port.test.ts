// Ports that cannot be had: each says why and what to do, and is opened by itself as soon as it can be.

import { chmod, realpath } from 'node:fs/promises';
import { dirname } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { serialConfig } from '../../modules/serial/config.ts';
import { findPort } from '../../modules/serial/find-port.ts';
import { PortWire } from '../../modules/serial/port-wire.ts';
import type { Adapter } from '../../src/core/adapter.ts';
import { systemRandom } from '../../src/platform/random.ts';
import { SerialInstrument } from '../sim/serial-instrument.ts';
import { type Line, serialLine } from '../support/serial-line.ts';
import { createTempDir } from '../support/temp-dir.ts';
import { usbSerialTree } from '../support/usb-serial-tree.ts';
import { waitFor } from '../support/wait.ts';
import { NEVER, record, type Recording } from '../unit/modules/modbus/harness.ts';
import { serialAdapter } from '../unit/modules/serial/harness.ts';

const SCALE = {
  request: 'W\r\n',
  decode: { kind: 'regex', pattern: '^W (?<weight>[-0-9.]+) kg$', types: { weight: 'number' } },
  poll_interval_ms: 50,
  timeout_ms: 300,
};
/** Somebody who owns nothing. */
const NOBODY = 65_534;

let line: Line;
let recording: Recording;
let running: Adapter[];

beforeEach(async () => {
  line = await serialLine();
  recording = record({});
  running = [];
});

afterEach(async () => {
  await Promise.all(running.map((adapter) => adapter.stop(NEVER)));
  await line[Symbol.asyncDispose]();
});

async function start(device = 'scale'): Promise<Adapter> {
  const adapter = serialAdapter({ path: line.near, devices: { [device]: SCALE } }, recording);
  running.push(adapter);
  await adapter.start(NEVER);
  return adapter;
}

const openScale = () => SerialInstrument.open({ path: line.far, answer: () => 'W 12.5 kg\r\n' });
const warnings = (): unknown[] => recording.logs.filter(({ level }) => level === 'warn');

it('a port that is absent is waited for', async () => {
  await line.unplug();
  const adapter = await start();
  await waitFor(() => adapter.health().status === 'degraded');
  expect(adapter.health().reason).toBe(
    `${line.near} does not exist or has no device (ENOENT). Check the cable and the path; it is opened as soon as it appears.`,
  );
  await waitFor(() => recording.quality('scale', 'weight') === 'bad:disconnected');
  await line.plug();
  await using _instrument = await openScale();
  await waitFor(() => recording.state('scale') === 'good');
  expect(adapter.health()).toEqual({ status: 'running' });
  // Said once, however often it was looked for.
  expect(warnings()).toHaveLength(1);
});

it('a path that is no port is told as that', async () => {
  const adapter = serialAdapter({ path: import.meta.filename, devices: { scale: SCALE } }, recording);
  running.push(adapter);
  await adapter.start(NEVER);
  await waitFor(() => adapter.health().status === 'degraded');
  expect(adapter.health().reason).toBe(`${import.meta.filename} is not a serial port. Check the path.`);
});

it('a port that the user may not open is opened once he may', async () => {
  await using _instrument = await openScale();
  const device = await realpath(line.near);
  // The way there is open to all, the port to nobody.
  await chmod(dirname(line.near), 0o755);
  await chmod(device, 0o000);
  const isRoot = process.geteuid?.() === 0;
  // Root may open everything. Loaded before, the library is not looked for as somebody who may not read it.
  await import('serialport');
  if (isRoot) process.seteuid?.(NOBODY);
  try {
    const adapter = await start();
    await waitFor(() => adapter.health().status === 'degraded');
    expect(adapter.health().reason).toBe(
      `${line.near} may not be opened by this user. Add the user of the service to the group of the port (often dialout).`,
    );
    expect(recording.logs.at(-1)?.fields).toMatchObject({ code: 'GW_SERIAL_DENIED' });
    await waitFor(() => recording.state('scale') === 'offline');
    if (isRoot) process.seteuid?.(0);
    await chmod(device, 0o666);
    if (isRoot) process.seteuid?.(NOBODY);
    await waitFor(() => recording.state('scale') === 'good');
    expect(adapter.health()).toEqual({ status: 'running' });
  } finally {
    if (isRoot) process.seteuid?.(0);
  }
});

it('a port has one adapter; a second one says who has it, and gets it when the first ends', async () => {
  await using _instrument = await openScale();
  const first = await start('first');
  await waitFor(() => recording.state('first') === 'good');
  const second = await start('second');
  await waitFor(() => second.health().status === 'degraded');
  expect(second.health().reason).toBe(
    `${line.near} is held by adapter "bus-1" of this gateway. One port has one adapter: put all devices of the line there.`,
  );
  const polls = recording.polls.length;
  await waitFor(() => recording.polls.length > polls + 5);
  expect(recording.state('first')).toBe('good');
  await first.stop(NEVER);
  await waitFor(() => recording.state('second') === 'good');
});

it('a USB converter is the same one in another socket and under another name', async () => {
  using directory = createTempDir('usb');
  const tree = usbSerialTree(directory.path);
  await using other = await serialLine();
  const converter = { usbPath: '1-1', vendorId: '0403', productId: '6001', serialNumber: 'A1' };
  const before = { ...converter, name: 'ttyUSB0', device: line.near };
  const after = { ...converter, name: 'ttyUSB1', usbPath: '1-2', device: other.near };
  const usb = { vendor_id: '0403', product_id: '6001', serial_number: 'A1' };
  const config = serialConfig.parse({ usb, devices: {} });
  const { clock, log } = recording.context;
  const find = () => findPort(config, { adapterId: 'scale-1', dataDirectory: directory.path }, tree);
  const wire = new PortWire({ target: 'USB 0403:6001', find, clock, random: systemRandom, log });
  let heard = '';
  const lost: string[] = [];
  wire.start({
    onOpen: () => {},
    onLost: ({ message }) => lost.push(message),
    onData: (bytes) => (heard += bytes.toString()),
    onReplayedRequest: () => {},
    onReplayedGap: () => {},
  });
  try {
    await waitFor(() => lost.length > 0);
    expect(lost[0]).toContain('There is no serial port of USB 0403:6001 serial number A1.');
    tree.plug(before);
    await waitFor(() => wire.isOpen);
    const first = await SerialInstrument.open({ path: line.far, answer: () => undefined });
    await first.say('one');
    await waitFor(() => heard === 'one');
    tree.unplug(before);
    await line.unplug();
    await first[Symbol.asyncDispose]();
    await waitFor(() => !wire.isOpen);
    tree.plug(after);
    await waitFor(() => wire.isOpen);
    await using second = await SerialInstrument.open({ path: other.far, answer: () => undefined });
    await second.say('two');
    await waitFor(() => heard === 'onetwo');
  } finally {
    await wire.stop();
  }
});
