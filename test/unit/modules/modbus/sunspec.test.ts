// SunSpec: values scaled by a register, values that a device has not, and where its models lie.

import { afterEach, describe, expect, it } from 'vitest';
import type { ModbusAdapter } from '../../../../modules/modbus/adapter.ts';
import { checkModbusConfig } from '../../../../modules/modbus/check-config.ts';
import { modbusConfig } from '../../../../modules/modbus/config.ts';
import { pointSchema } from '../../../../modules/modbus/config-point.ts';
import { compilePoint } from '../../../../modules/modbus/values.ts';
import { qualityText } from '../../../../src/core/reading.ts';
import { waitFor } from '../../../support/wait.ts';
import { adapterFor, exception, NEVER, record, serve, type ScriptedServer } from './harness.ts';

const HOST = '127.0.67.1';

/** The value and quality of a point in registers that were read from its first one on. */
function read(point: object, registers: string): unknown[] {
  const compiled = compilePoint('p', pointSchema.parse(point), 'ABCD');
  expect(compiled.quantity).toBe(registers.split(' ').length);
  const { value, quality } = compiled.read(Buffer.from(registers.replaceAll(' ', ''), 'hex'), compiled.address);
  return value === undefined ? [qualityText(quality)] : [value, qualityText(quality)];
}

describe('a scale register', () => {
  const volts = { register: 'holding:10', type: 'uint16', scale_register: 'holding:12' };

  it.each([
    ['08fd 0000 ffff', [230.1, 'good']],
    ['0003 0000 fffd', [0.003, 'good']],
    ['0003 0000 0000', [3, 'good']],
    ['0003 0000 000a', [30_000_000_000, 'good']],
    ['0003 0000 000b', ['bad:scale_factor']],
    ['0003 0000 fff5', ['bad:scale_factor']],
    ['0003 0000 8000', ['bad:not_available']],
  ])('%s', (registers, expected) => {
    expect(read(volts, registers)).toEqual(expected);
  });

  it('may stand in front of the value, and multiplies its own scale, before the offset and the limits', () => {
    const point = { register: 'holding:10', type: 'int16', scale_register: 'holding:9', scale: 0.1, offset: 1, max: 5 };
    expect(read(point, 'ffff fff6')).toEqual([0.9, 'good']);
    expect(read(point, '0000 0064')).toEqual(['bad:out_of_range']);
  });

  it('keeps integers of 64 bits exact', () => {
    const point = { register: 'holding:10', type: 'uint64', scale_register: 'holding:14' };
    expect(read(point, '0020 0000 0000 0001 0000')).toEqual([9007199254740993n, 'good']);
  });

  it.each([
    [{ scale_register: 'input:1' }, 'points.p.scale_register: must be in the table of register, holding, not input.'],
    [{ scale_register: 'holding:500' }, 'points.p.scale_register: needs 501 registers in one request;'],
    [
      { scale_register: 'holding:1', writable: true },
      'points.p.writable: a point with scale_register can only be read.',
    ],
    [{ scale_register: 'holding:1', type: 'string', length_registers: 1 }, 'points.p.scale_register: only for numbers'],
    [{ scale_register: 'holding:1', enum: { 1: 'on' } }, 'points.p.scale_register: not with enum'],
    [
      { register: 'input:0', sunspec_models: [1] },
      'points.p.register: SunSpec models lie in holding registers, not input.',
    ],
    [{ sunspec_models: [1], writable: true }, 'points.p.writable: a point with sunspec_models can only be read.'],
  ])('is checked: %j', (fields, message) => {
    const config = modbusConfig.parse({
      transport: { kind: 'tcp', host: 'a' },
      devices: { d: { points: { p: { register: 'holding:0', ...fields } } } },
    });
    const faults = checkModbusConfig(config).map(({ path, message }) => `${path.slice(2).join('.')}: ${message}`);
    expect(faults.join('\n')).toContain(message);
  });
});

describe('a value that a SunSpec device has not', () => {
  it.each([
    ['int16', '8000', 'ffff'],
    ['uint16', 'ffff', '8000'],
    ['int32', '8000 0000', 'ffff ffff'],
    ['uint32', 'ffff ffff', '8000 0000'],
    ['int64', '8000 0000 0000 0000', 'ffff ffff ffff ffff'],
    ['uint64', 'ffff ffff ffff ffff', '8000 0000 0000 0000'],
    ['float32', '7fc0 0000', '3f80 0000'],
  ])('%s %s', (type, absent, present) => {
    const point = { register: 'holding:2', type };
    expect(read({ ...point, sunspec_models: [103] }, absent)).toEqual(['bad:not_available']);
    expect(read({ ...point, sunspec_models: [103] }, present)[1]).toBe('good');
    // Elsewhere it is a value like any other, or not a number.
    expect(read(point, absent).at(-1)).toBe(type === 'float32' ? 'bad:not_a_number' : 'good');
  });

  it('text, and a state without a name', () => {
    const text = { register: 'holding:2', type: 'string', length_registers: 2, sunspec_models: [1] };
    expect(read(text, '0000 0000')).toEqual(['bad:not_available']);
    expect(read(text, '4162 0000')).toEqual(['Ab', 'good']);
    const state = { register: 'holding:38', sunspec_models: [103], enum: { 1: 'off' } };
    expect(read(state, 'ffff')).toEqual(['bad:not_available']);
    expect(read(state, '0009')).toEqual(['9', 'uncertain:unknown_enum']);
  });
});

describe('the chain of models', () => {
  let adapter: ModbusAdapter | undefined;
  let server: ScriptedServer | undefined;

  afterEach(async () => {
    await adapter?.stop(NEVER);
    await server?.close();
  });

  const MARK = '5375 6e53';
  /** A common model, one that nobody reads, model 103 twice, and the end. */
  const CHAIN = `${MARK} 0001 0002 0000 0000 1234 0001 0000 0067 0003 0021 002a ffff 0067 0001 0063 ffff 0000`;
  const POINTS = {
    amps: { sunspec_models: [101, 103], register: 'holding:2', type: 'uint16', scale_register: 'holding:4' },
    volts: { sunspec_models: [103], register: 'holding:3' },
  };

  /** Holds registers from an address on and refuses all others. */
  async function start(base: number, chain: string, points: object, fields: object = {}, batches = 3) {
    const words = chain.split(' ');
    const recording = record();
    server = await serve(HOST);
    server.answer = (request) => {
      const wanted = words.slice(request.address - base, request.address - base + request.quantity);
      if (request.address < base || wanted.length < request.quantity) return exception(request, 2);
      return { pdu: Buffer.from([3, wanted.length * 2, ...Buffer.from(wanted.join(''), 'hex')]) };
    };
    adapter = adapterFor(
      {
        transport: { kind: 'tcp', host: HOST, port: server.port },
        timeout_ms: 200,
        devices: { inverter: { poll_interval_ms: 30, points, ...fields } },
      },
      recording,
    );
    void adapter.start(NEVER);
    await waitFor(() => recording.batches.length >= batches);
    return { recording, server };
  }

  it.each([[40_000], [50_000], [0]])(
    'is found at %i, once, and followed to the first model of the kind',
    async (base) => {
      const { recording, server } = await start(base, CHAIN, POINTS);
      expect([recording.value('inverter', 'amps'), recording.value('inverter', 'volts')]).toEqual([3.3, 42]);
      expect(recording.state('inverter')).toBe('good');
      const headers = server.requests.filter(({ quantity }) => quantity === 2);
      expect(headers.filter(({ address }) => address === base)).toHaveLength(1);
      // Value and scale factor come in one request.
      expect(server.requests.at(-1)).toMatchObject({ address: base + 11, quantity: 3 });
      expect(adapter?.devices()[0]?.points[0]?.address).toBe('SunSpec model 101 or 103, register 2 uint16');
    },
  );

  it('is looked for at the addresses of the device', async () => {
    const { recording } = await start(1000, CHAIN, POINTS, { sunspec_base_addresses: [1000] });
    expect(recording.value('inverter', 'volts')).toBe(42);
  });

  it('is followed again after a new connection', async () => {
    const { recording, server } = await start(40_000, CHAIN, POINTS);
    const longer = CHAIN.replace('1234 0001 0000', '1234 0002 0000 0000').split(' ');
    server.answer = ({ address, quantity }) => ({
      pdu: Buffer.from([
        3,
        quantity * 2,
        ...Buffer.from(longer.slice(address - 40_000, address - 40_000 + quantity).join(''), 'hex'),
      ]),
    });
    for (const socket of server.connections) socket.destroy();
    // One register further on than before.
    await waitFor(() => server.requests.some(({ address, quantity }) => address === 40_012 && quantity === 3));
    const { length } = recording.batches;
    await waitFor(() => recording.batches.length > length);
    expect(recording.value('inverter', 'volts')).toBe(42);
  });

  it('may lack a model, or have a shorter revision of it, or end without its end', async () => {
    const { recording } = await start(40_000, `${MARK} 0067 0002 0021 002a`, {
      volts: POINTS.volts,
      late: { sunspec_models: [103], register: 'holding:4' },
      none: { sunspec_models: [160], register: 'holding:2' },
      plain: { register: 'holding:40003' },
    });
    expect(recording.value('inverter', 'volts')).toBe(42);
    expect(recording.value('inverter', 'plain')).toBe(2);
    expect(recording.quality('inverter', 'late')).toBe('bad:not_available');
    expect(recording.quality('inverter', 'none')).toBe('bad:no_sunspec_model');
    expect(recording.state('inverter')).toBe('degraded');
  });

  it('may not be there at all: the device answers, and is asked again', async () => {
    const circuit = { circuit_breaker: { probe_interval_min_ms: 100, probe_interval_max_ms: 200 } };
    const { recording, server } = await start(
      0,
      '0000 0000',
      { volts: POINTS.volts, plain: { register: 'holding:1' } },
      circuit,
    );
    expect(recording.value('inverter', 'plain')).toBe(0);
    expect(recording.quality('inverter', 'volts')).toBe('bad:not_sunspec');
    expect(recording.state('inverter')).toBe('degraded');
    expect(server.requests.filter(({ address }) => address === 40_000).length).toBeGreaterThan(1);
  });

  it('may be all that is wanted and not there: the device is not offline', async () => {
    const { recording } = await start(0, '0000 0000', { volts: POINTS.volts }, {}, 1);
    expect(recording.quality('inverter', 'volts')).toBe('bad:not_sunspec');
    expect(recording.state('inverter')).toBe('degraded');
  });

  it('is followed again when a device that was silent is back, on the same connection', async () => {
    const circuit = { circuit_breaker: { failures: 1, probe_interval_min_ms: 100, probe_interval_max_ms: 100 } };
    const { recording, server } = await start(40_000, CHAIN, POINTS, circuit);
    const { answer } = server;
    server.answer = () => undefined;
    await waitFor(() => recording.quality('inverter', 'volts') === 'bad:timeout');
    await waitFor(() => recording.state('inverter') === 'offline');
    const asked = server.requests.length;
    server.answer = answer;
    await waitFor(() => recording.state('inverter') === 'good');
    expect(server.requests.slice(asked).some(({ address, quantity }) => address === 40_000 && quantity === 2)).toBe(
      true,
    );
    expect(server.accepted).toBe(1);
  });
});
