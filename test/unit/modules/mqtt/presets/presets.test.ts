// What holds for all presets.

import { describe, expect, it } from 'vitest';
import type { PresetName } from '../../../../../modules/mqtt/config.ts';
import { isDeviceId } from '../../../../../src/core/device.ts';
import { get } from 'sparkplug-payload';
import { preset, hear, told, sent } from './harness.ts';

describe('what is meant for all devices', () => {
  it.each([
    ['tasmota', ['cmnd/tasmotas/POWER', 'cmnd/p/a/b'], ['tele/p/STATE', 'tasmota/discovery/A1/config']],
    ['shelly', ['shellies/command', 'shellies/s/command'], ['shellies/announce', 'shellies/s/announce']],
    ['zigbee2mqtt', ['zigbee2mqtt/bridge/request/permit_join', 'zigbee2mqtt/group/set'], ['zigbee2mqtt/lamp']],
    ['homie', ['homie/$broadcast/alert', 'homie/$any'], ['homie/d/$state', 'homie/d/n/p']],
    [
      'sparkplug',
      ['spBv1.0/STATE/scada', 'STATE/scada', 'spBv1.0/G/NCMD/n', 'spBv1.0/G/DCMD/n/d'],
      ['spBv1.0/G/NDATA/n', 'spBv1.0/G/NDEATH/n'],
    ],
  ] as const)('is a command with %s, and what devices say is none', (name, commands, others) => {
    const dialect = preset(name);
    expect(commands.filter((topic) => !dialect.isCommand(topic))).toEqual([]);
    expect(others.filter((topic) => dialect.isCommand(topic))).toEqual([]);
  });
});

describe('ids made of names', () => {
  it('has an id for every Zigbee name, and sends to the name', () => {
    const dialect = preset('zigbee2mqtt');
    const names = { 'Lampe Küche': 'Lampe_K_u00fcche', 'hall/灯': 'hall._u706f', '💡1': '_ud83d_udca11' };
    const definition = {
      exposes: [{ type: 'binary', property: 'state', access: 7, value_on: 'ON', value_off: 'OFF' }],
    };
    const entries = Object.keys(names).map((friendly_name) => ({ friendly_name, definition }));
    hear(dialect, 'zigbee2mqtt/bridge/devices', JSON.stringify(entries));
    for (const [name, id] of Object.entries(names)) {
      expect(isDeviceId(id)).toBe(true);
      expect(dialect.owner(`zigbee2mqtt/${name}/set`)).toBe(id);
      expect(told(dialect, `zigbee2mqtt/${name}`, { state: 'ON' })).toMatchObject({ device: id, online: true });
      expect(sent(dialect, id, 'state', true)).toEqual([`zigbee2mqtt/${name}/set {"state":"ON"}`]);
    }
  });

  it('has one for every Sparkplug node, which speaks in it', () => {
    const birth = get('spBv1.0')?.encodePayload({ seq: 0, metrics: [{ name: 'Relay', type: 'Boolean', value: true }] });
    const dialect = preset('sparkplug');
    const [heard] = hear(dialect, 'spBv1.0/Werk Süd/NBIRTH/Öl 1', birth ?? new Uint8Array())?.told ?? [];
    expect(heard?.device).toBe('Werk_S_u00fcd._u00d6l_1');
    expect(dialect.owner('spBv1.0/Werk Süd/DDATA/Öl 1/x')).toBe('Werk_S_u00fcd._u00d6l_1');
    expect(sent(dialect, 'Werk_S_u00fcd._u00d6l_1', 'Relay', true)?.[0]).toMatch(/^spBv1\.0\/Werk Süd\/NCMD\/Öl 1 /);
  });
});

describe('two devices of one id', () => {
  it('gives the id to the first Zigbee name, until that is gone', () => {
    const dialect = preset('zigbee2mqtt');
    const devices = (...names: string[]) =>
      hear(
        dialect,
        'zigbee2mqtt/bridge/devices',
        JSON.stringify(
          names.map((name) => ({
            friendly_name: name,
            definition: {
              exposes: [{ type: 'binary', property: 'state', access: 7, value_on: 'ON', value_off: 'OFF' }],
            },
          })),
        ),
      )?.told.map(({ device, fault }) => [device, fault]);
    expect(devices('Lamp 1', 'Lamp_1')).toEqual([
      ['Lamp_1', undefined],
      ['Lamp_1', 'ambiguous_id'],
    ]);
    const spoken = told(dialect, 'zigbee2mqtt/Lamp_1', { state: 'ON' });
    expect(spoken).toEqual({ device: 'Lamp_1', fault: 'ambiguous_id' });
    expect(sent(dialect, 'Lamp_1', 'state', true)).toEqual(['zigbee2mqtt/Lamp 1/set {"state":"ON"}']);
    expect(devices('Lamp_1', 'Hall')).toEqual([
      ['Lamp_1', undefined],
      ['Hall', undefined],
    ]);
    expect(sent(dialect, 'Lamp_1', 'state', true)).toEqual(['zigbee2mqtt/Lamp_1/set {"state":"ON"}']);
  });

  it('gives the id to the first Sparkplug node or device', () => {
    const codec = get('spBv1.0');
    const birth = codec?.encodePayload({ seq: 0, metrics: [{ name: 'Relay', type: 'Boolean', value: true }] });
    const dialect = preset('sparkplug');
    const heard = ['spBv1.0/A/DBIRTH/B/C', 'spBv1.0/A.B/NBIRTH/C', 'spBv1.0/A/DBIRTH/B.C/D', 'spBv1.0/A.B/DBIRTH/C/D'];
    const faults = heard.map((topic) => hear(dialect, topic, birth ?? new Uint8Array())?.told[0]?.fault);
    expect(faults).toEqual([undefined, 'ambiguous_id', undefined, 'ambiguous_id']);
    expect(dialect.planWrite('A.B.C', 'Relay', true)?.publish[0]?.topic).toBe('spBv1.0/A/DCMD/B/C');
  });
});

// A sensor that was lost must not look alive with its last value.
it.each<[PresetName, string, string, string]>([
  ['tasmota', 'tele/plug/SENSOR', '{"AM2301":{"Temperature":null}}', 'AM2301.Temperature'],
  ['zigbee2mqtt', 'zigbee2mqtt/plug', '{"temperature":null}', 'temperature'],
  ['zigbee2mqtt', 'zigbee2mqtt/lamp', '{"color":{"x":null}}', 'color.x'],
  ['shelly', 'shellies/shelly1-AA/ext_temperature/0', 'null', 'ext_temperature/0'],
  ['shelly', 'shellyplusht-a8032ab12345/status/temperature:0', '{"id":0,"tC":null}', 'temperature:0.tC'],
])('%s: null on %s is seen: %s', (name, topic, payload, point) => {
  expect(told(preset(name), topic, payload)).toMatchObject({
    readings: [{ point, quality: { level: 'bad', reason: 'null' } }],
  });
});

// https://shelly-api-docs.shelly.cloud/gen2/ComponentsAndServices/Input: a push button has no state.
it('takes nothing of the missing state of a push button', () => {
  const status = '{"id":0,"state":null}';
  expect(told(preset('shelly'), 'shellyplusi4-a8032ab12345/status/input:0', status).readings).toEqual([]);
});

it.each(['shellies/shelly1-AA/relay/0/command', 'shellies/command', 'shellyplus1-a8032ab12345/rpc'])(
  'takes what Shelly devices are told on %s for nothing that they say',
  (topic) => {
    expect(hear(preset('shelly'), topic, 'on')?.told).toEqual([]);
  },
);
