// Payloads of Tasmota as its firmware sends them.

import { describe, expect, it } from 'vitest';
import type { Dialect } from '../../../../../modules/mqtt/dialect.ts';
import { preset, hear, told, values, sent } from './harness.ts';

describe('tasmota', () => {
  // https://tasmota.github.io/docs/MQTT/ and …/Power-Monitoring/
  const plug = (): Dialect => preset('tasmota');

  it('reads sensors with units', () => {
    const sensor = {
      Time: '2026-01-02T03:04:05',
      ENERGY: {
        TotalStartTime: '2025-01-01T00:00:00',
        Total: 3.185,
        Yesterday: 3.058,
        Today: 0.127,
        Power: 9,
        Factor: 0.41,
        Voltage: 229,
        Current: 0.094,
      },
      AM2301: { Temperature: 24.6, Humidity: 58.2 },
      TempUnit: 'C',
    };
    expect(values(told(plug(), 'tele/tasmota_4F2A/SENSOR', sensor))).toMatchObject({
      'ENERGY.Total kWh': 3.185,
      'ENERGY.Power W': 9,
      'ENERGY.Voltage V': 229,
      'AM2301.Temperature °C': 24.6,
      'AM2301.Humidity %': 58.2,
    });
  });

  it('gives a value with the name of what every object has no unit', () => {
    expect(values(told(plug(), 'tele/p/SENSOR', { constructor: { toString: 1 } }))).toEqual({
      'constructor.toString': 1,
    });
  });

  it('names the phases of a meter', () => {
    expect(values(told(plug(), 'tele/em/SENSOR', { ENERGY: { Power: [0, 12] } }))).toEqual({
      'ENERGY.Power.1 W': 0,
      'ENERGY.Power.2 W': 12,
    });
  });

  it('knows relays from their state, their result and their own topic', () => {
    const dialect = plug();
    expect(
      values(
        told(dialect, 'tele/p/STATE', { Uptime: '1T17:04:28', UptimeSec: 147_868, POWER: 'ON', Wifi: { Signal: -63 } }),
      ),
    ).toEqual({
      UptimeSec: 147_868,
      POWER: true,
      'Wifi.Signal dBm': -63,
    });
    expect(values(told(dialect, 'stat/p/RESULT', { POWER: 'OFF' }))).toEqual({ POWER: false });
    expect(values(told(dialect, 'stat/p/POWER2', 'ON'))).toEqual({ POWER2: true });
  });

  it('takes online from the will', () => {
    expect(told(plug(), 'tele/p/LWT', 'Online')).toEqual({ device: 'p', online: true });
    expect(told(plug(), 'tele/p/LWT', 'Offline')).toEqual({ device: 'p', online: false });
    expect(told(plug(), 'tele/p/LWT', 'Perhaps').fault).toBe('unknown_availability');
  });

  it('writes with a command and nothing else', () => {
    const dialect = plug();
    expect(sent(dialect, 'p', 'POWER', true)).toEqual(['cmnd/p/POWER ON']);
    expect(sent(dialect, 'p', 'Dimmer', 40)).toEqual(['cmnd/p/Dimmer 40']);
    expect(sent(dialect, 'p', 'ENERGY.Power', 1)).toBeUndefined();
    expect(() => sent(dialect, 'p', 'POWER', 'yes')).toThrow(/takes true or false/);
    for (const value of [400, -1, 2.5, '40', true])
      expect(() => sent(dialect, 'p', 'Dimmer', value)).toThrow(/takes a whole number from 0 up to 100/);
    expect(sent(dialect, 'p', 'CT', 153)).toEqual(['cmnd/p/CT 153']);
    expect(() => sent(dialect, 'p', 'CT', 501)).toThrow(/from 153 up to 500/);
    expect(dialect.isCommand('cmnd/p/POWER')).toBe(true);
    expect(dialect.owner('cmnd/p/POWER')).toBe('p');
  });

  // https://tasmota.github.io/docs/MQTT/#command-flow
  it('hears that the device knows a command not, or not with that value', () => {
    const dialect = plug();
    const judge = dialect.planWrite('p', 'CT', 200)?.judge;
    const answers = ['{"Command":"Unknown"}', '{"Command":"Error"}', '{"Command":"Unknown","Input":"CT"}'];
    for (const [index, reason] of ['unknown', 'error', 'unknown'].entries()) {
      const { answer } = told(dialect, 'stat/p/RESULT', answers[index] ?? '');
      expect(judge?.(answer ?? '')).toEqual({ reason, said: JSON.stringify(answers[index]) });
    }
    const another = { value: undefined };
    expect(judge?.('{"Command":"Unknown","Input":"DIMMER"}')).toEqual(another);
    expect(judge?.('{"Command":"Done"}')).toEqual(another);
    const relay = dialect.planWrite('p', 'POWER2', true)?.judge;
    expect(relay?.('{"Command":"Unknown","Input":"POWER"}')).toMatchObject({ reason: 'unknown' });
  });

  it('tells what is not JSON, and leaves what another broker kept', () => {
    expect(told(plug(), 'tele/p/SENSOR', '{"ENERGY"').fault).toBe('payload_not_json');
    expect(hear(plug(), 'tele/p/SENSOR', '{"A":1}', true)?.told).toEqual([{ device: 'p' }]);
  });
});
