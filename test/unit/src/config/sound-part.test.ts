import { describe, expect, it } from 'vitest';
import { formatFault } from '../../../../src/config/fault.ts';
import { loadConfigText } from '../../../../src/config/load.ts';
import { ModuleCatalogue } from '../../../../src/config/schema.ts';
import { MODULES } from '../../../../src/main.ts';

function faults(text: string): string[] {
  const result = loadConfigText(text, { catalogue: new ModuleCatalogue(MODULES), file: 'f' });
  return result.ok ? [] : result.faults.map(formatFault);
}

describe('faults of fields beside faults of rules', () => {
  it('tells both at once, at every level', () => {
    const found = faults(`adapters:
  bus:
    type: modbus
    transport: { kind: tcp, host: 10.0.0.1 }
    devices:
      meter:
        unit_id: 300
        points:
          a: { register: holding:65535, type: float32 }
          b: { register: input:1, type: uint16, writable: true }
          c: { register: coil:1, type: float32 }
          d: { register: holding:1, type: floot32, byte_order: CDAB }
upstream:
  type: mqtt
  url: mqtt://broker.example:1883
  window: 0
`);
    expect(found.map((line) => line.split(': ').slice(0, 2).join(': '))).toEqual([
      'f:7: adapters.bus.devices.meter.unit_id',
      'f:9: adapters.bus.devices.meter.points.a.register',
      'f:10: adapters.bus.devices.meter.points.b.writable',
      'f:11: adapters.bus.devices.meter.points.c.type',
      // Of the point with a wrong type only that: what its byte order means without a type is anybody's guess.
      'f:12: adapters.bus.devices.meter.points.d.type',
      'f:15: upstream.url',
      'f:16: upstream.window',
    ]);
  });

  it('tells unknown keys and missing fields without inventing others', () => {
    const found = faults(`adapters:
  bus:
    type: modbus
    transport: { kind: tcp, host: 10.0.0.1 }
    devices:
      meter:
        points: { a: { register: input:1, typo: 1 }, b: { type: int16 }, c: { register: input:2, writable: true } }
`);
    expect(found.map((line) => line.split(': ')[1])).toEqual([
      'adapters.bus.devices.meter.points.a.typo',
      'adapters.bus.devices.meter.points.b.register',
      'adapters.bus.devices.meter.points.c.writable',
    ]);
  });

  it('does not take what was left out for empty', () => {
    const found = faults(`adapters:
  field:
    type: mqtt
    listen: {}
    topics: [{ topic: 'a/b' }]
    clients: [{ username: '', password: !env HOME }]
`);
    expect(found.map((line) => line.split(': ')[1])).toEqual([
      'adapters.field.topics[0].topic',
      'adapters.field.clients[0].username',
    ]);
  });
});
