// Each file of test/cases/modbus: a device's configuration and registers, the requests of a poll and what they give.

import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { bisect } from '../../../../modules/modbus/bisect.ts';
import { checkModbusConfig } from '../../../../modules/modbus/check-config.ts';
import { modbusConfig } from '../../../../modules/modbus/config.ts';
import { Holes } from '../../../../modules/modbus/holes.ts';
import { type PlannedRequest, planRequests } from '../../../../modules/modbus/poll-plan.ts';
import { type CompiledPoint, compilePoint } from '../../../../modules/modbus/values.ts';
import { type PointValue, qualityText, type Reading } from '../../../../src/sdk/index.ts';
import { type DeviceOptions, SimDevice, type TableName } from '../../../sim/modbus-device.ts';

interface Case {
  readonly device: unknown;
  readonly registers: Partial<Record<TableName, Readonly<Record<string, readonly number[]>>>>;
  readonly illegal?: NonNullable<DeviceOptions['illegal']>;
  readonly requests: readonly string[];
  /** Of the next poll, when it differs. */
  readonly later_requests?: readonly string[];
  readonly values: Readonly<Record<string, PointValue>>;
  readonly quality?: Readonly<Record<string, string>>;
}

const FOLDER = new URL('../../../cases/modbus/', import.meta.url);
const names = readdirSync(FOLDER).filter((name) => name.endsWith('.yaml'));

interface Poll {
  readonly asked: string[];
  readonly readings: Map<string, Reading>;
}

async function poll(
  points: readonly CompiledPoint[],
  device: SimDevice,
  plan: () => PlannedRequest<CompiledPoint>[],
  holes: Holes,
): Promise<Poll> {
  const asked: string[] = [];
  const readings = new Map(points.map((point) => [point.name, point.bad('exception_2')]));
  const ask = async (request: PlannedRequest<CompiledPoint>): Promise<'answered' | 'refused'> => {
    const { functionCode, address, quantity } = request;
    asked.push(`${functionCode} ${address}+${quantity}`);
    const pdu = Buffer.of(functionCode, address >> 8, address & 0xff, quantity >> 8, quantity & 0xff);
    const answer = device.answer(pdu);
    if (answer[0] !== functionCode) {
      expect(answer[1]).toBe(2);
      return 'refused';
    }
    for (const point of request.points) readings.set(point.name, point.read(answer.subarray(2), address));
    return 'answered';
  };
  for (const request of plan()) {
    if ((await ask(request)) === 'refused') await bisect(request, holes, ask);
  }
  return { asked, readings };
}

describe.each(names)('%s', (name) => {
  it('is polled as written', async () => {
    const given = parse(readFileSync(new URL(name, FOLDER), 'utf8')) as Case;
    const config = modbusConfig.parse({ transport: { kind: 'tcp', host: 'h' }, devices: { d: given.device } });
    expect(checkModbusConfig(config)).toEqual([]);
    const own = config.devices['d'];
    if (own === undefined) throw new Error('no device');
    const device = new SimDevice(given.illegal === undefined ? {} : { illegal: given.illegal });
    for (const [table, rows] of Object.entries(given.registers)) {
      for (const [address, values] of Object.entries(rows)) device.set(table as TableName, Number(address), values);
    }
    const points = Object.entries(own.points).map(([point, fields]) => compilePoint(point, fields, own.byte_order));
    const limits = {
      maxRegisters: own.max_registers,
      maxCoils: own.max_coils,
      maxGapRegisters: own.max_gap_registers,
      maxGapCoils: own.max_gap_coils,
      oneRequestPerPoint: own.one_request_per_point,
      coilsFromZero: own.coils_from_zero,
    };
    const holes = new Holes();
    for (const requests of [given.requests, given.later_requests ?? given.requests]) {
      const { asked, readings } = await poll(points, device, () => planRequests(points, limits, holes), holes);
      expect(asked).toEqual(requests);
      const good = [...readings.values()].filter(({ quality }) => quality.level === 'good');
      const others = [...readings.values()].filter(({ quality }) => quality.level !== 'good');
      expect(Object.fromEntries(good.map(({ point, value }) => [point, value]))).toEqual(given.values);
      expect(Object.fromEntries(others.map(({ point, quality }) => [point, qualityText(quality)]))).toEqual(
        given.quality ?? {},
      );
    }
  });
});

it('has cases', () => {
  expect(names.length).toBeGreaterThanOrEqual(4);
});
