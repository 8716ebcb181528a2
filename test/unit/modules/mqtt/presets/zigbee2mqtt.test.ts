// Zigbee2MQTT and its bridge.

import { describe, expect, it } from 'vitest';
import { preset, hear, told, values, sent } from './harness.ts';

describe('zigbee2mqtt', () => {
  // https://www.zigbee2mqtt.io/guide/usage/mqtt_topics_and_messages.html and …/exposes.html
  const devices = [
    { ieee_address: '0x00158d00018255df', type: 'Coordinator', friendly_name: 'Coordinator' },
    {
      ieee_address: '0x0017880104e45517',
      type: 'Router',
      friendly_name: 'hall/my bulb',
      definition: {
        model: '9290012573A',
        vendor: 'Philips',
        exposes: [
          {
            type: 'light',
            features: [
              { type: 'binary', name: 'state', property: 'state', access: 7, value_on: 'ON', value_off: 'OFF' },
              { type: 'numeric', name: 'brightness', property: 'brightness', access: 7, value_min: 0, value_max: 254 },
            ],
          },
          { type: 'enum', name: 'effect', property: 'effect', access: 2, values: ['blink', 'okay'] },
          { type: 'numeric', name: 'linkquality', property: 'linkquality', access: 1, unit: 'lqi' },
        ],
      },
    },
  ];

  it('learns devices, points and units from the bridge, and reads and writes by them', () => {
    const dialect = preset('zigbee2mqtt');
    const [bulb] = hear(dialect, 'zigbee2mqtt/bridge/devices', JSON.stringify(devices))?.told ?? [];
    expect(bulb).toMatchObject({ device: 'hall.my_bulb', identity: { vendor: 'Philips', model: '9290012573A' } });
    expect(bulb?.points?.map(({ name, writable }) => `${name} ${writable}`)).toEqual([
      'state true',
      'brightness true',
      'effect true',
      'linkquality false',
    ]);
    const state = told(dialect, 'zigbee2mqtt/hall/my bulb', {
      state: 'ON',
      brightness: 215,
      effect: null,
      color: { x: 0.4, y: 0.3 },
      linkquality: 90,
    });
    expect(values(state)).toEqual({
      state: true,
      brightness: 215,
      'color.x': 0.4,
      'color.y': 0.3,
      'linkquality lqi': 90,
    });
    expect(sent(dialect, 'hall.my_bulb', 'state', false)).toEqual(['zigbee2mqtt/hall/my bulb/set {"state":"OFF"}']);
    expect(sent(dialect, 'hall.my_bulb', 'linkquality', 1)).toBeUndefined();
    expect(sent(dialect, 'hall.my_bulb', 'brightness', 254)).toHaveLength(1);
    for (const value of [255, -1, 'bright'])
      expect(() => sent(dialect, 'hall.my_bulb', 'brightness', value)).toThrow(/takes a number from 0 up to 254/);
    expect(sent(dialect, 'hall.my_bulb', 'effect', 'blink')).toHaveLength(1);
    expect(() => sent(dialect, 'hall.my_bulb', 'effect', 'bogus')).toThrow(/takes one of blink, okay/);
  });

  // …/devices/MCCGQ11LM.html#contact-binary and …/devices/TRVZB.html#child-lock-binary
  it('leaves a boolean as it is, whatever stands for on, and takes nothing but a binary value for one', () => {
    const dialect = preset('zigbee2mqtt');
    const contact = { type: 'binary', property: 'contact', access: 1, value_on: false, value_off: true };
    const inverse = { type: 'binary', property: 'closed', access: 3, value_on: false, value_off: true };
    const lock = { type: 'binary', property: 'child_lock', access: 3, value_on: 'LOCK', value_off: 'UNLOCK' };
    const described = [{ friendly_name: 't', definition: { exposes: [contact, inverse, lock] } }];
    const [device] = hear(dialect, 'zigbee2mqtt/bridge/devices', JSON.stringify(described))?.told ?? [];
    expect(device?.points?.map(({ values }) => values)).toEqual(Array.from({ length: 3 }, () => ({ kind: 'boolean' })));
    const state = { contact: true, closed: false, child_lock: 'UNLOCK' };
    expect(values(told(dialect, 'zigbee2mqtt/t', state))).toEqual({ contact: true, closed: false, child_lock: false });
    expect(sent(dialect, 't', 'closed', true)).toEqual(['zigbee2mqtt/t/set {"closed":true}']);
    expect(sent(dialect, 't', 'child_lock', true)).toEqual(['zigbee2mqtt/t/set {"child_lock":"LOCK"}']);
    expect(sent(dialect, 't', 'child_lock', 'UNLOCK')).toEqual(['zigbee2mqtt/t/set {"child_lock":"UNLOCK"}']);
    expect(dialect.planWrite('t', 'child_lock', 'UNLOCK')?.wanted).toBe(false);
    for (const value of [7, 'banana', 'TOGGLE'])
      expect(() => sent(dialect, 't', 'child_lock', value)).toThrow(/takes true or false, as LOCK or UNLOCK too/);
    expect(() => sent(dialect, 't', 'closed', 'false')).toThrow(/takes true or false\.$/);
  });

  it('has its devices there while the bridge is, unless their own availability denies it', () => {
    const dialect = preset('zigbee2mqtt');
    const say = (topic: string, payload: unknown) =>
      hear(dialect, `zigbee2mqtt/${topic}`, JSON.stringify(payload))
        ?.told.filter(({ online }) => online !== undefined)
        .map(({ device, online }) => `${device} ${online === true ? 'online' : 'offline'}`);
    const described = [{ friendly_name: 'lamp' }, { friendly_name: 'plug' }];
    expect(say('bridge/devices', described)).toEqual([]);
    expect(say('plug/availability', { state: 'offline' })).toEqual(['plug offline']);
    expect(say('bridge/state', { state: 'online' })).toEqual(['zigbee2mqtt-bridge online', 'lamp online']);
    expect(say('bridge/devices', described)).toEqual(['lamp online']);
    expect(say('plug/availability', { state: 'online' })).toEqual(['plug online']);
    expect(say('bridge/state', { state: 'offline' })).toEqual([
      'zigbee2mqtt-bridge offline',
      'lamp offline',
      'plug offline',
    ]);
    // Kept by the broker from before.
    expect(say('lamp/availability', { state: 'online' })).toEqual(['lamp offline']);
    expect(say('plug', { state: 'ON' })).toEqual(['plug online']);
  });

  it('reads availability in both its forms', () => {
    const dialect = preset('zigbee2mqtt');
    expect(told(dialect, 'zigbee2mqtt/plug/availability', 'offline')).toEqual({ device: 'plug', online: false });
    expect(told(dialect, 'zigbee2mqtt/plug/availability', { state: 'online' })).toEqual({
      device: 'plug',
      online: true,
    });
    expect(told(dialect, 'zigbee2mqtt/bridge/state', { state: 'online' }).device).toBe('zigbee2mqtt-bridge');
  });
});
