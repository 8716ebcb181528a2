// Two adapters of the real modules that want one serial port.

import { symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { formatFault } from '../../../../src/config/fault.ts';
import { loadConfigText } from '../../../../src/config/load.ts';
import { ModuleCatalogue } from '../../../../src/config/schema.ts';
import { MODULES } from '../../../../src/main.ts';
import { createTempDir, type TempDir } from '../../../support/temp-dir.ts';

const catalogue = new ModuleCatalogue(MODULES);
let folder: TempDir;
/** Two names of one port. */
let port: string;
let byId: string;

beforeEach(() => {
  folder = createTempDir('claims');
  port = join(folder.path, 'ttyUSB0');
  byId = join(folder.path, 'usb-FTDI_A1-if00-port0');
  writeFileSync(port, '');
  symlinkSync('ttyUSB0', byId);
});

afterEach(() => folder.remove());

const usb = (id: string, more = '') => `usb: { vendor_id: "${id}", product_id: "6001"${more} }`;
const path = (text: string) => `path: ${text}`;
const scale = (where: string, device: string, more = '') =>
  `{ type: serial, ${where}, devices: { ${device}: { decode: { kind: regex, pattern: "(?<w>.)" } } }${more} }`;
const meter = (where: string, device: string, more = '') =>
  `{ type: modbus, transport: { kind: rtu, path: ${where} }, devices: { ${device}: { unit_id: 1, points: { p: { register: "coil:0" } }${more} } } }`;

function faults(first: string, second: string): string[] {
  const text = `gateway: { id: g }\nadapters:\n  one: ${first}\n  two: ${second}\n`;
  const result = loadConfigText(text, { catalogue, file: 'site.yaml', env: {} });
  return result.ok ? [] : result.faults.map(formatFault);
}

const taken = (at: string) => [
  `site.yaml:4: adapters.two.${at}: the serial port is already used by adapters.one; one port has one adapter: put all devices of the line there.`,
];

it('is a fault, by whatever names and modules', () => {
  expect(faults(scale(path(port), 'a'), scale(path(port), 'b'))).toEqual(taken('path'));
  expect(faults(scale(path(port), 'a'), scale(path(byId), 'b'))).toEqual(taken('path'));
  expect(faults(scale(path(byId), 'a'), meter(port, 'b'))).toEqual(taken('transport.path'));
  expect(faults(meter(port, 'a'), meter(byId, 'b'))).toEqual(taken('transport.path'));
  expect(faults(scale(path('/dev/absent'), 'a'), scale(path('/dev/./absent'), 'b'))).toEqual(taken('path'));
  expect(faults(scale(path('scale.tty'), 'a'), scale(path('scale.tty'), 'b'))).toEqual(taken('path'));
  expect(faults(scale(usb('04a3'), 'a'), scale(usb('04A3'), 'b'))).toEqual(taken('usb'));
});

it('is none where they are two ports, or one adapter leaves it alone', () => {
  const replay = ', replay: { file: a.jsonl }';
  for (const [first, second] of [
    [scale(path(port), 'a'), scale(path('/dev/ttyUSB1'), 'b')],
    [scale(usb('0403'), 'a'), scale(usb('0403', ', serial_number: "2"'), 'b')],
    [scale(path(port), 'a'), scale(path(port), 'b', ', enabled: false')],
    [scale(path(port), 'a', ', simulate: true'), scale(path(port), 'b')],
    [scale(path(port), 'a', replay), scale(path(port), 'b')],
    [meter(port, 'a', ', simulate: true'), meter(port, 'b')],
    [meter(port, 'a', replay), meter(port, 'b')],
  ] as const) {
    expect(faults(first, second), `${first}\n${second}`).toEqual([]);
  }
});
