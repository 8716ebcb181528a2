// Every shipped profile, played against registers with known contents: a server holds what the case file says (made up from
// the map, unless the file names a recording), the exchange is captured, and replayed through the adapter that is made from
// the profile.

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { createModbusAdapter, type ModbusAdapter } from '../../../../modules/modbus/adapter.ts';
import type { ModbusConfig } from '../../../../modules/modbus/config.ts';
import { crcHolds } from '../../../../modules/modbus/crc.ts';
import { modbus } from '../../../../modules/modbus/index.ts';
import { compilePoint } from '../../../../modules/modbus/values.ts';
import { formatFault } from '../../../../src/config/fault.ts';
import { loadConfigText } from '../../../../src/config/load.ts';
import { listProfiles, readProfile } from '../../../../src/config/profiles.ts';
import { ModuleCatalogue } from '../../../../src/config/schema.ts';
import { qualityText } from '../../../../src/core/reading.ts';
import { createTempDir, type TempDir } from '../../../support/temp-dir.ts';
import { waitFor } from '../../../support/wait.ts';
import { exception, NEVER, record, serve, type Answer, type ServedRequest } from './harness.ts';

const HOST = '127.0.67.1';
const CASES = join(import.meta.dirname, '..', '..', '..', 'cases', 'profiles');
const names = readdirSync(CASES).map((file) => file.slice(0, -'.yaml'.length));

interface Case {
  /** By table and first address: registers in hexadecimal. */
  readonly registers: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** Or the quality of what has no value. */
  readonly values: Readonly<Record<string, unknown>>;
}

let directory: TempDir;
let adapter: ModbusAdapter | undefined;

beforeEach(() => {
  directory = createTempDir('profiles');
});

afterEach(async () => {
  await adapter?.stop(NEVER);
  adapter = undefined;
  directory.remove();
});

function check(text: string) {
  const catalogue = new ModuleCatalogue([modbus]);
  return loadConfigText(text, { catalogue, file: 'site.yaml', dataDirectory: directory.path });
}

function settings(device: string, port = 9): ModbusConfig {
  const result = check(
    `adapters: { bus: { type: modbus, timeout_ms: 500, transport: { kind: tcp, host: ${HOST}, port: ${port} }, devices: { meter: ${device} } } }`,
  );
  if (!result.ok) throw new Error(result.faults.map(formatFault).join('\n'));
  return result.loaded.config.adapters[0]?.settings as ModbusConfig;
}

/** Answers with the registers of a case; a request for any other one is refused, as devices do. */
function holding({ registers }: Case): (request: ServedRequest) => Answer {
  const contents = new Map<string, string>();
  for (const [table, runs] of Object.entries(registers)) {
    for (const [first, words] of Object.entries(runs)) {
      words.split(' ').forEach((word, index) => contents.set(`${table}:${Number(first) + index}`, word));
    }
  }
  return (request) => {
    const table = request.functionCode === 3 ? 'holding' : 'input';
    const words = Array.from({ length: request.quantity }, (_, index) =>
      contents.get(`${table}:${request.address + index}`),
    );
    if (words.includes(undefined)) return exception(request, 2);
    return { pdu: Buffer.from([request.functionCode, words.length * 2, ...Buffer.from(words.join(''), 'hex')]) };
  };
}

describe('shipped profiles', () => {
  it('are at least twelve, each with a case, and without faults', () => {
    const shipped = listProfiles(modbus, undefined);
    expect(shipped.map(({ name }) => name)).toEqual(names.toSorted());
    expect(shipped.length).toBeGreaterThanOrEqual(12);
    expect(shipped.flatMap(({ file }) => readProfile(modbus, file).faults.map(formatFault))).toEqual([]);
  });

  it.each(names)('%s gives the values of its registers, read and replayed', async (name) => {
    const expected = parse(readFileSync(join(CASES, `${name}.yaml`), 'utf8')) as Case;
    const server = await serve(HOST);
    server.answer = holding(expected);
    const common = `profile: ${name}, poll_interval_ms: 50`;
    const read = async (device: string): Promise<Record<string, unknown>> => {
      const recording = record({ captureDirectory: directory.path });
      adapter = createModbusAdapter(settings(device, server.port), recording.context);
      void adapter.start(NEVER);
      await waitFor(() => recording.batches.length > 0);
      await adapter.stop(NEVER);
      const readings = recording.batches[0]?.readings ?? [];
      return Object.fromEntries(readings.map(({ point, value, quality }) => [point, value ?? qualityText(quality)]));
    };
    expect(await read(`{ ${common}, capture: { file: frames.jsonl } }`)).toEqual(expected.values);
    await server.close();
    expect(await read(`{ ${common}, replay: { file: frames.jsonl } }`)).toEqual(expected.values);
  });
});

describe('an exchange with a real device', () => {
  // From Nordmanngrowtechnology/Modbus-RTU_SHT-20-MD02-Test, README.md: the sensor showed 26.3 °C.
  it('xy-md02: the answer to a read of input register 1 is 26.3 °C', () => {
    const answer = Buffer.from('01 04 02 01 07 f9 62'.replaceAll(' ', ''), 'hex');
    expect(crcHolds(answer, 0, answer.length)).toBe(true);
    const meter = settings('{ profile: xy-md02 }').devices['meter'];
    const config = meter?.points['temperature'];
    if (meter === undefined || config === undefined) throw new Error('The profile has no temperature.');
    const point = compilePoint('temperature', config, meter.byte_order);
    expect(point.read(answer.subarray(3, 5), 1)).toMatchObject({ value: 26.3, unit: '°C', quality: { level: 'good' } });
  });
});

describe('profiles', () => {
  const own = (name: string, text: string): void => {
    mkdirSync(directory.file('profiles'), { recursive: true });
    writeFileSync(directory.file('profiles', `${name}.yaml`), text);
  };
  const faults = (device: string): string[] => {
    const result = check(
      `adapters:\n  bus:\n    type: modbus\n    transport: { kind: tcp, host: a }\n    devices:\n      meter: ${device}\n`,
    );
    return result.ok ? [] : result.faults.map(formatFault);
  };

  it('are overridden by what a device says itself, field by field', () => {
    const { devices } = settings(
      '{ profile: xy-md02, points: { temperature: { scale: 0.01 }, alarm: { register: "coil:0" } } }',
    );
    const meter = devices['meter'];
    expect(meter?.points['temperature']).toMatchObject({
      register: 'input:0x0001',
      type: 'int16',
      scale: 0.01,
      unit: '°C',
    });
    expect(Object.keys(meter?.points ?? {})).toEqual(['temperature', 'humidity', 'alarm']);
    expect(settings('{ profile: carlo-gavazzi-em24 }').devices['meter']?.byte_order).toBe('CDAB');
    expect(settings('{ profile: carlo-gavazzi-em24, byte_order: ABCD }').devices['meter']?.byte_order).toBe('ABCD');
  });

  it('of the own folder go before the shipped ones', () => {
    own('xy-md02', 'title: Mine\nsource: me\npoints: { only: { register: "input:9" } }\n');
    expect(Object.keys(settings('{ profile: xy-md02 }').devices['meter']?.points ?? {})).toEqual(['only']);
  });

  it('with a wrong name suggest the nearest', () => {
    expect(faults('{ profile: eastron-sdm360 }')).toEqual([
      'site.yaml:6: adapters.bus.devices.meter.profile: there is no profile "eastron-sdm360". Did you mean "eastron-sdm630"?',
    ]);
  });

  it('are told all their faults at once', () => {
    own(
      'broken',
      'title: x\nsource: y\npoints:\n  a: { register: "input:0", type: flaot32 }\n  b: { register: "input:70000" }\ncolour: red\n',
    );
    const file = directory.file('profiles', 'broken.yaml');
    expect(faults('{ profile: broken }').filter((line) => line.startsWith(file))).toEqual([
      expect.stringContaining(`${file}:4: points.a.type: "flaot32" is not known;`),
      expect.stringContaining(`${file}:5: points.b.register: "input:70000" is not a register`),
      expect.stringContaining(`${file}:6: colour: is not known here;`),
    ]);
  });

  it.each([
    [
      'title: x\nsource: y\npoints:\n  a: { register: "input:0", typ: int16 }\n',
      ':4: points.a.typ: is not known here;',
    ],
    [
      'title: x\nsource: y\npoints:\n  a: { register: "input:0", writable: true }\n',
      ':4: points.a.writable: input registers cannot be written',
    ],
    ['title: x\nsource: y\ndevice:\n  unit_id: 3\npoints: {}\n', ':4: device.unit_id: is not known here;'],
    ['title: x\npoints: {}\n', ':1: source: is missing;'],
    ['title: [\n', 'not valid YAML'],
    ['', ':1: source: is missing;'],
    ['- a\n- b\n', ':1: is no profile: a profile is a map with title, source and points.'],
    ['title: x\n\tsource: y\n', ':2: a tab at the start of a line;'],
    [
      'title: x\nsource: y\npoints:\n  a: { register: "input:0" }\n  a: { register: "input:1" }\n',
      ':5: points.a: stands twice, first in line 4;',
    ],
    [
      'title: x\nsource: y\npoints:\n  a: { register: "inputs:1" }\n',
      ':4: points.a.register: "inputs:1" is not a register.',
    ],
    ['title: x\nsource: y\npoints:\n  a: 5\n', ':4: points.a: must be a map of keys; found 5.'],
    ['title: x\nsource: !env HOME\npoints: {}\n', ':2: source: !env HOME: the environment has no variable HOME'],
  ])('with faults are told by file and line: %j', (text, message) => {
    own('broken', text);
    const told = faults('{ profile: broken }');
    expect(
      told.some((line) => line.startsWith(directory.file('profiles', 'broken.yaml')) && line.includes(message)),
    ).toBe(true);
    expect(
      told.some((line) => line.startsWith('site.yaml:6: adapters.bus.devices.meter.profile: the profile has faults')),
    ).toBe(true);
  });
});
