// Parts of the real modules that want one serial port, or one TCP port.

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
  const result = loadConfigText(text, { catalogue, file: 'site.yaml', env: {}, dataDirectory: folder.path });
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
  // A relative one begins in the data directory.
  expect(faults(scale(path('ttyUSB0'), 'a'), scale(path(port), 'b'))).toEqual(taken('path'));
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

const broker = (listeners: string, more = '') =>
  `{ type: mqtt, allow_plaintext: true, anonymous: all, presets: [shelly], ${listeners}${more} }`;

function siteFaults(text: string): string[] {
  const result = loadConfigText(`gateway: { id: g }\n${text}`, { catalogue, file: 'site.yaml', env: {} });
  return result.ok ? [] : result.faults.map(formatFault);
}

it('is a fault of two listeners, whichever parts they are of', () => {
  const one = broker('listen: { port: 1883 }');
  expect(faults(one, broker('listen: { port: 1883, address: 0.0.0.0 }'))).toEqual([
    'site.yaml:4: adapters.two.listen.port: 0.0.0.0:1883 is taken by adapters.one; choose another port.',
  ]);
  expect(faults(one, broker('listen_ws: { port: 1883, address: "::" }'))).toEqual([
    'site.yaml:4: adapters.two.listen_ws.port: [::]:1883 is taken by adapters.one; choose another port.',
  ]);
  expect(faults(broker('listen: {}', ', simulate: true'), one)).toHaveLength(1);
  expect(faults('{ type: simulator }', broker('listen: { port: 5020 }'))).toHaveLength(1);
  expect(siteFaults(`adapters:\n  one: ${broker('listen: { port: 1884 }, listen_ws: { port: 1884 }')}\n`)).toEqual([
    'site.yaml:3: adapters.one.listen_ws.port: 127.0.0.1:1884 is taken by adapters.one; choose another port.',
  ]);
  expect(siteFaults(`adapters:\n  one: ${broker('listen: { port: 8080 }')}\n`)).toEqual([
    'site.yaml:3: adapters.one.listen.port: 127.0.0.1:8080 is taken by web; choose another port.',
  ]);
  expect(siteFaults('upstream:\n  type: local\n  listen: { port: 8080 }\n')).toEqual([
    'site.yaml:4: upstream.listen.port: 127.0.0.1:8080 is taken by web; choose another port.',
  ]);
  expect(siteFaults('web: { port: 443 }\nhub: { enabled: true, amqp_port: 5671 }\n')).toEqual([
    'site.yaml:3: hub.amqp_port: 127.0.0.1:5671 is taken by hub; choose another port.',
    'site.yaml:3: hub.https_port: 127.0.0.1:443 is taken by web; choose another port.',
  ]);
});

it('is none of listeners that are not in the way of each other', () => {
  for (const text of [
    `adapters:\n  one: ${broker('listen: { address: 127.0.0.2 }')}\n  two: ${broker('listen: {}')}\n`,
    `adapters:\n  one: ${broker('listen: { address: "::1" }')}\n  two: ${broker('listen: { address: 0.0.0.0 }')}\n`,
    `adapters:\n  one: ${broker('listen: { port: 8080 }')}\nweb: { enabled: false }\n`,
    `adapters:\n  one: ${broker('listen: { port: 8883 }')}\nhub: { enabled: false }\n`,
    'hub: { enabled: true, address: 127.0.0.2, amqp_port: 8080 }\n',
    'web: { address: 192.168.7.1 }\nhub: { enabled: true, address: 192.168.7.1, amqp_port: 8080 }\n',
  ]) {
    expect(siteFaults(text), text).toEqual([]);
  }
});
