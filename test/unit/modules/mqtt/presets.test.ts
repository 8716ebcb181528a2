// Payloads as the devices send them, from the documentation that each block names.

import { describe, expect, it } from 'vitest';
import type { PresetName } from '../../../../modules/mqtt/config.ts';
import type { Device } from '../../../../modules/mqtt/devices.ts';
import type { Dialect, Told } from '../../../../modules/mqtt/dialect.ts';
import { createPreset } from '../../../../modules/mqtt/presets/presets.ts';
import { decodeSparkplug } from '../../../../modules/mqtt/presets/sparkplug-codec.ts';
import { Writer } from '../../../../modules/mqtt/writer.ts';
import { isDeviceId, parseDeviceId } from '../../../../src/core/device.ts';
import type { PointValue } from '../../../../src/core/reading.ts';
import { SystemClock } from '../../../../src/platform/clock.ts';
import { get } from 'sparkplug-payload';

const NOW_MS = 1_800_000_000_000;
const preset = (name: PresetName, gateway = 'gateway-1'): Dialect =>
  createPreset(name, {
    clock: { wallMs: () => NOW_MS, monotonicMs: () => 0 },
    gatewayId: parseDeviceId(gateway),
    adapterId: 'field',
  });

function hear(dialect: Dialect, topic: string, payload: string | Uint8Array, replayed = false) {
  const bytes = typeof payload === 'string' ? Buffer.from(payload) : payload;
  return dialect.understand({ topic, payload: bytes, replayed });
}

function told(dialect: Dialect, topic: string, payload: string | object): Told {
  const [first] = hear(dialect, topic, typeof payload === 'string' ? payload : JSON.stringify(payload))?.told ?? [];
  if (first === undefined) throw new Error(`${topic} was not understood`);
  return first;
}

/** `name: value unit` of each reading. */
function values({ readings = [] }: Told): Record<string, unknown> {
  return Object.fromEntries(
    readings.map(({ point, value, unit }) => [unit === undefined ? point : `${point} ${unit}`, value]),
  );
}

function sent(dialect: Dialect, device: string, point: string, value: PointValue): string[] | undefined {
  return dialect
    .planWrite(device, point, value)
    ?.publish.map(({ topic, payload }) => `${topic} ${Buffer.from(payload).toString()}`);
}

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

describe('shelly', () => {
  // https://shelly-api-docs.shelly.cloud/gen1/#shelly1-shelly1pm-mqtt
  it('reads the topics of generation 1', () => {
    const dialect = preset('shelly');
    const topic = 'shellies/shelly1pm-B929CC';
    expect(values(told(dialect, `${topic}/relay/0`, 'on'))).toEqual({ 'relay/0': true });
    expect(values(told(dialect, `${topic}/relay/0/power`, '12.34'))).toEqual({ 'relay/0/power W': 12.34 });
    expect(values(told(dialect, `${topic}/relay/0/energy`, '1234'))).toEqual({ 'relay/0/energy Wmin': 1234 });
    expect(values(told(dialect, `${topic}/ext_temperature/0`, '21.5'))).toEqual({ 'ext_temperature/0 °C': 21.5 });
    expect(told(dialect, `${topic}/online`, 'false')).toEqual({ device: 'shelly1pm-B929CC', online: false });
    expect(sent(dialect, 'shelly1pm-B929CC', 'relay/0', false)).toEqual([`${topic}/relay/0/command off`]);
    expect(dialect.isCommand(`${topic}/relay/0/command`)).toBe(true);
  });

  // https://shelly-api-docs.shelly.cloud/gen2/ComponentsAndServices/Switch and …/General/Notifications
  it('reads notifications and states of generation 2', () => {
    const dialect = preset('shelly');
    const device = 'shellyplus1pm-a8032abe54dc';
    const status = {
      id: 0,
      source: 'button',
      output: true,
      apower: 8.9,
      voltage: 237.5,
      aenergy: { total: 6.532, by_minute: [45.1], minute_ts: 1_626_935_779 },
      temperature: { tC: 23.5, tF: 74.4 },
    };
    expect(values(told(dialect, `${device}/status/switch:0`, status))).toEqual({
      'switch:0.output': true,
      'switch:0.apower W': 8.9,
      'switch:0.voltage V': 237.5,
      'switch:0.aenergy.total Wh': 6.532,
      'switch:0.temperature.tC °C': 23.5,
      'switch:0.temperature.tF °F': 74.4,
    });
    const event = {
      src: device,
      dst: `${device}/events`,
      method: 'NotifyStatus',
      params: { ts: 1_631_186_545.04, 'switch:0': { id: 0, output: false } },
    };
    const heard = told(dialect, `${device}/events/rpc`, event);
    expect(values(heard)).toEqual({ 'switch:0.output': false });
    expect(heard.wallMs).toBe(1_631_186_545_040);
    expect(told(dialect, `${device}/online`, 'true')).toEqual({ device, online: true });
  });

  it('writes to generation 2 by RPC', () => {
    const [message = ''] = sent(preset('shelly'), 'shellyplus1pm-a8032abe54dc', 'switch:0.output', true) ?? [];
    const [topic, ...json] = message.split(' ');
    expect(topic).toBe('shellyplus1pm-a8032abe54dc/rpc');
    expect(JSON.parse(json.join(' '))).toMatchObject({
      src: 'shellyplus1pm-a8032abe54dc/fieldpost-gateway-1.field',
      method: 'Switch.Set',
      params: { id: 0, on: true },
    });
  });

  /** What becomes of `switch:0.output` = true when the device answers the request with that. */
  function writeAnswered(answer: object, from = 'gateway-1') {
    const deviceId = parseDeviceId('shellyplus1pm-a8032abe54dc');
    const dialect = preset('shelly');
    const writer = new Writer(new SystemClock(), ({ payload }) => {
      const { id } = JSON.parse(Buffer.from(payload).toString()) as { id: number };
      const topic = `${deviceId}/fieldpost-${from}.field/rpc`;
      const frame = { id, src: deviceId, dst: `${deviceId}/fieldpost-${from}.field`, ...answer };
      for (const { answer: text } of hear(dialect, topic, JSON.stringify(frame))?.told ?? [])
        if (text !== undefined) writer.answer(deviceId, text);
      writer.reading(deviceId, 'switch:0.apower', 0);
      return Promise.resolve();
    });
    const planWrite: Dialect['planWrite'] = (...args) => {
      const plan = dialect.planWrite(...args);
      return plan === undefined ? undefined : { ...plan, timeoutMs: 50 };
    };
    const device = { state: 'good', info: { points: [] }, dialect: { planWrite } } as unknown as Device;
    return writer.write(device, { deviceId, point: 'switch:0.output', value: true }, new AbortController().signal);
  }

  // https://shelly-api-docs.shelly.cloud/gen2/General/RPCProtocol and …/CommonErrors
  it('hears that generation 2 refuses, with its code', async () => {
    const error = { code: -103, message: "Invalid argument 'on'!" };
    await expect(writeAnswered({ error })).rejects.toMatchObject({
      code: 'GW_MQTT_ANSWER',
      message: expect.stringContaining("Invalid argument 'on'!") as string,
      details: { reason: 'error_-103' },
    });
    await expect(writeAnswered({ error: { message: 'No' } })).rejects.toMatchObject({
      details: { reason: 'refused' },
    });
  });

  it('takes no answer for its own that another request or gateway has asked for', async () => {
    const error = { code: -103, message: 'No' };
    await expect(writeAnswered({ error, id: 99 })).rejects.toMatchObject({ code: 'GW_TIMEOUT' });
    await expect(writeAnswered({ error }, 'gateway-2')).rejects.toMatchObject({ code: 'GW_TIMEOUT' });
    expect(preset('shelly').owner('shellyplus1-a8032ab12345/fieldpost-gateway-1.field/rpc')).toBe(
      'shellyplus1-a8032ab12345',
    );
    expect(preset('shelly', 'gateway-2').owner('shellyplus1-a8032ab12345/fieldpost-gateway-1.field/rpc')).toBe(
      undefined,
    );
  });

  it('knows a switch that was as it is to be, and that a result alone tells no value', async () => {
    expect(await writeAnswered({ result: { was_on: true } })).toEqual({ readBack: true, quality: { level: 'good' } });
    const unconfirmed = { quality: { level: 'uncertain', reason: 'unconfirmed' } };
    expect(await writeAnswered({ result: { was_on: false } })).toEqual(unconfirmed);
    expect(await writeAnswered({ result: null })).toEqual(unconfirmed);
  });
});

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

describe('homie', () => {
  // https://homieiot.github.io/specification/spec-core-v4_0_0/
  it('reads properties by their attributes, in whatever order these come', () => {
    const dialect = preset('homie');
    const topic = 'homie/super-car';
    expect(told(dialect, `${topic}/$state`, 'ready')).toEqual({ device: 'super-car', online: true });
    expect(told(dialect, `${topic}/$state`, 'lost')).toEqual({ device: 'super-car', online: false });
    expect(values(told(dialect, `${topic}/engine/temperature`, '21.5'))).toEqual({ 'engine/temperature': '21.5' });
    told(dialect, `${topic}/engine/temperature/$datatype`, 'float');
    told(dialect, `${topic}/engine/temperature/$unit`, '°C');
    expect(values(told(dialect, `${topic}/engine/temperature`, '21.5'))).toEqual({ 'engine/temperature °C': 21.5 });
  });

  it('reads what a broker has kept once its data type is known', () => {
    const dialect = preset('homie');
    const kept = (name: string, text: string) =>
      hear(dialect, `homie/car/${name}`, text, true)?.told[0] ?? { device: '' };
    expect(kept('engine/on', 'false').readings).toBeUndefined();
    expect(kept('engine/heat', '20.4').readings).toBeUndefined();
    expect(kept('engine/heat/$unit', '°C').readings).toBeUndefined();
    expect(values(kept('engine/heat/$datatype', 'float'))).toEqual({ 'engine/heat °C': 20.4 });
    expect(kept('engine/heat/$datatype', 'float').readings).toBeUndefined();
    expect(values(kept('engine/heat', '20.5'))).toEqual({ 'engine/heat °C': 20.5 });
    // What it says now is not followed by what it said before.
    expect(values(told(dialect, 'homie/car/engine/on', 'true'))).toEqual({ 'engine/on': 'true' });
    expect(kept('engine/on/$datatype', 'boolean').readings).toBeUndefined();
  });

  it('writes settable properties only', () => {
    const dialect = preset('homie');
    told(dialect, 'homie/car/lights/intensity/$datatype', 'integer');
    expect(sent(dialect, 'car', 'lights/intensity', 40)).toBeUndefined();
    told(dialect, 'homie/car/lights/intensity/$settable', 'true');
    expect(sent(dialect, 'car', 'lights/intensity', 40)).toEqual(['homie/car/lights/intensity/set 40']);
    expect(() => sent(dialect, 'car', 'lights/intensity', 'much')).toThrow(/takes a whole number/);
  });

  it.each([
    ['integer', undefined, [0, -7, 2n ** 60n], [2.5, 1e21, '5', true]],
    ['integer', '5:30', [5, 30], [4, 31, 2n ** 60n]],
    ['float', '-1.5:30', [-1.5, 99 / 10], [-2, 30.1]],
    ['percent', '0:100', [0, 12.5], [101]],
    ['float', 'warm:hot', [1e6], ['1']],
    ['boolean', undefined, [true, false], ['true', 1]],
    ['enum', 'auto,manual', ['auto', 'manual'], ['bogus', 'auto,manual', '']],
    ['enum', undefined, ['anything'], []],
    ['color', 'rgb', ['255,0,7'], ['abc', '256,0,0', '1,2', '1,2,3,4', '-1,0,0', '1, 2,3']],
    ['color', 'hsv', ['360,100,100'], ['361,0,0', '0,101,0']],
    ['string', '1:2', ['any', 3], []],
  ] as const)('sends of %s with $format %s only what fits', (datatype, format, good, bad) => {
    const dialect = preset('homie');
    for (const [name, text] of Object.entries({ $settable: 'true', $datatype: datatype, $format: format ?? '' }))
      told(dialect, `homie/d/n/p/${name}`, text);
    for (const value of good) expect(sent(dialect, 'd', 'n/p', value)).toEqual([`homie/d/n/p/set ${value}`]);
    for (const value of bad)
      expect(() => sent(dialect, 'd', 'n/p', value), String(value)).toThrow(
        expect.objectContaining({ code: 'GW_WRITE_REFUSED' }),
      );
  });

  it('takes a data type that it does not know for text', () => {
    const dialect = preset('homie');
    told(dialect, 'homie/car/lights/mode/$datatype', 'constructor');
    expect(values(told(dialect, 'homie/car/lights/mode', '7'))).toEqual({ 'lights/mode': '7' });
  });
});

describe('sparkplug', () => {
  // https://sparkplug.eclipse.org/specification/version/3.0/documents/sparkplug-specification-3.0.0.pdf, 6.4
  const codec = get('spBv1.0');
  const bytes = (payload: object): Uint8Array => codec?.encodePayload(payload) ?? new Uint8Array();
  const birth = bytes({
    timestamp: 1_767_323_045_000,
    seq: 0,
    metrics: [
      { name: 'bdSeq', type: 'Int64', value: 3 },
      { name: 'Node Control/Rebirth', type: 'Boolean', value: false },
      {
        name: 'Temperature',
        alias: 7,
        type: 'Float',
        value: 21.5,
        properties: { engUnit: { type: 'String', value: '°C' } },
      },
      { name: 'Count', alias: 8, type: 'Int16', value: 5 },
      { name: 'Relay', alias: 9, type: 'Boolean', value: true },
    ],
  });
  const born = (): Dialect => {
    const dialect = preset('sparkplug');
    hear(dialect, 'spBv1.0/plant/NBIRTH/edge-1', birth);
    return dialect;
  };

  it('learns names, units and values from a birth', () => {
    const [node] = hear(preset('sparkplug'), 'spBv1.0/plant/NBIRTH/edge-1', birth)?.told ?? [];
    expect(node).toMatchObject({ device: 'plant.edge-1', online: true, wallMs: 1_767_323_045_000 });
    expect(values(node ?? { device: '' })).toEqual({ 'Temperature °C': 21.5, Count: 5, Relay: true });
  });

  it('reads data by alias, and negative numbers', () => {
    const payload = bytes({
      seq: 1,
      metrics: [
        { alias: 7, type: 'Float', value: 22.5 },
        { alias: 8, type: 'Int16', value: -3 },
      ],
    });
    const heard = hear(born(), 'spBv1.0/plant/NDATA/edge-1', payload);
    expect(values(heard?.told[0] ?? { device: '' })).toEqual({ 'Temperature °C': 22.5, Count: -3 });
    expect(heard?.ask).toBeUndefined();
  });

  it('asks for a rebirth without a birth, and after a hole in the numbering', () => {
    const data = (seq: number) => bytes({ seq, metrics: [{ alias: 7, type: 'Float', value: 1 }] });
    for (const dialect of [preset('sparkplug'), born()]) {
      const heard = hear(dialect, 'spBv1.0/plant/NDATA/edge-1', data(9));
      const [ask] = heard?.ask ?? [];
      expect(ask?.topic).toBe('spBv1.0/plant/NCMD/edge-1');
      const [metric] = decodeSparkplug(ask?.payload ?? new Uint8Array())?.metrics ?? [];
      expect([metric?.name, metric?.value(undefined)]).toEqual(['Node Control/Rebirth', true]);
    }
  });

  it('tells what was measured at several times by these times, the newest last', () => {
    const at = (ms: number, value: number, fields: object = {}) => {
      return { alias: 7, type: 'Float', value, timestamp: NOW_MS + ms, ...fields };
    };
    const kept = { isHistorical: true };
    const payload = bytes({
      timestamp: NOW_MS,
      seq: 1,
      metrics: [
        at(-1000, 23.5),
        { alias: 8, type: 'Int16', value: 4, timestamp: NOW_MS - 2000, ...kept },
        at(-2000, 1.5, kept),
        at(-3000, 2.5, kept),
        // The same time once more, as nodes with a coarse clock have it.
        at(-3000, 3.5, kept),
        { alias: 9, type: 'Boolean', value: false },
      ],
    });
    const heard = hear(born(), 'spBv1.0/plant/NDATA/edge-1', payload);
    const lines = (heard?.told ?? []).map((one) => [
      (one.wallMs ?? 0) - NOW_MS,
      one.isHistorical ?? false,
      values(one),
    ]);
    expect(lines).toEqual([
      [-3000, true, { 'Temperature °C': 2.5 }],
      [-3000, true, { 'Temperature °C': 3.5 }],
      [-2000, true, { Count: 4, 'Temperature °C': 1.5 }],
      [-1000, false, { 'Temperature °C': 23.5 }],
      [0, false, { Relay: false }],
    ]);
    expect(heard?.told.map(({ online }) => online)).toEqual([true, undefined, undefined, undefined, undefined]);
  });

  it('takes a birth for the present, whenever its values last changed', () => {
    const metrics = [1, 2].map((day) => ({
      name: `m${day}`,
      type: 'Int32',
      value: day,
      timestamp: NOW_MS - day * 86_400_000,
    }));
    const told = hear(
      preset('sparkplug'),
      'spBv1.0/plant/NBIRTH/edge-1',
      bytes({ timestamp: NOW_MS, seq: 0, metrics }),
    )?.told;
    expect(told).toHaveLength(1);
    expect([told?.[0]?.wallMs, values(told?.[0] ?? { device: '' })]).toEqual([NOW_MS, { m1: 1, m2: 2 }]);
  });

  it('counts the death of a device in the numbering', () => {
    const dialect = born();
    const say = (type: string, path: string, seq: number, metrics: object[] = []) =>
      hear(dialect, `spBv1.0/plant/${type}/edge-1${path}`, bytes({ seq, metrics }));
    say('DBIRTH', '/pump', 1, [{ name: 'Flow', type: 'Double', value: 1 }]);
    expect(say('DDEATH', '/pump', 2)).toEqual({ told: [{ device: 'plant.edge-1.pump', online: false }] });
    expect(say('NDATA', '', 3)?.ask).toBeUndefined();
    // 4 is missing.
    const heard = say('DDEATH', '/pump', 5);
    expect(heard?.told).toEqual([{ device: 'plant.edge-1.pump', online: false, fault: 'sequence' }]);
    expect(heard?.ask?.map(({ topic }) => topic)).toEqual(['spBv1.0/plant/NCMD/edge-1']);
  });

  it('gives floats in the digits that they hold, and says when a value is no number', () => {
    const payload = bytes({
      seq: 1,
      metrics: [230.1, 16_777_216, Number.NaN, Number.NEGATIVE_INFINITY].map((value) => ({
        alias: 7,
        type: 'Float',
        value,
      })),
    });
    const heard = hear(born(), 'spBv1.0/plant/NDATA/edge-1', payload)?.told ?? [];
    expect(heard.map(({ readings }) => readings?.[0]?.value ?? readings?.[0]?.quality)).toEqual([
      230.1,
      16_777_216,
      { level: 'bad', reason: 'not_a_number' },
      { level: 'bad', reason: 'not_a_number' },
    ]);
  });

  it('takes a node and its devices for gone at its death, but not at the will of an earlier connection', () => {
    const dialect = born();
    hear(
      dialect,
      'spBv1.0/plant/DBIRTH/edge-1/pump',
      bytes({ seq: 1, metrics: [{ name: 'Flow', type: 'Double', value: 1 }] }),
    );
    const death = (bdSeq: number) => bytes({ metrics: [{ name: 'bdSeq', type: 'Int64', value: bdSeq }] });
    expect(hear(dialect, 'spBv1.0/plant/NDEATH/edge-1', death(2))?.told).toEqual([]);
    expect(hear(dialect, 'spBv1.0/plant/NDEATH/edge-1', death(3))?.told).toEqual([
      { device: 'plant.edge-1', online: false },
      { device: 'plant.edge-1.pump', online: false },
    ]);
  });

  it('writes by the type of the birth', () => {
    const dialect = born();
    const plan = dialect.planWrite('plant.edge-1', 'Relay', false);
    expect(plan?.publish[0]?.topic).toBe('spBv1.0/plant/NCMD/edge-1');
    const [metric] = decodeSparkplug(plan?.publish[0]?.payload ?? new Uint8Array())?.metrics ?? [];
    expect([metric?.name, metric?.datatype, metric?.value(undefined)]).toEqual(['Relay', 11, false]);
    expect(() => dialect.planWrite('plant.edge-1', 'Relay', 1)).toThrow(/type Boolean/);
    expect(dialect.planWrite('plant.edge-1', 'Nothing', 1)).toBeUndefined();
  });

  it('says when a command and a request for a rebirth were made', () => {
    const dialect = born();
    const [command] = dialect.planWrite('plant.edge-1', 'Count', 7)?.publish ?? [];
    const [ask] = hear(preset('sparkplug'), 'spBv1.0/plant/NDATA/edge-1', bytes({ metrics: [] }))?.ask ?? [];
    for (const publish of [command, ask]) {
      const payload = decodeSparkplug(publish?.payload ?? new Uint8Array());
      expect([payload?.wallMs, payload?.metrics[0]?.wallMs]).toEqual([NOW_MS, NOW_MS]);
    }
  });

  it.each<[string, readonly PointValue[], readonly PointValue[]]>([
    ['Int8', [-128, 127], [-129, 128, 1.5, '1.5', true, Number.NaN]],
    ['Int16', [-32_768, 32_767], [70_000, -32_769]],
    ['Int32', [-2_147_483_648, 2_147_483_647], [2_147_483_648]],
    ['Int64', [-9_223_372_036_854_775_808n, 9_007_199_254_740_993n, '-9007199254740993', -5], [2n ** 63n, 2 ** 63]],
    ['UInt8', [0, 255], [-1, 256]],
    ['UInt16', [0, 65_535], [-1, 65_536]],
    ['UInt32', [0, 4_294_967_295], [-1, 4_294_967_300]],
    ['UInt64', [0, 18_446_744_073_709_551_615n, '9007199254740993'], [-1, 2n ** 64n]],
    ['DateTime', [NOW_MS], [-1]],
    ['Float', [0.5, -3.402_823_5e38], [1e300, '0.5']],
    ['Double', [1e300], [Number.POSITIVE_INFINITY, true]],
    ['String', ['on'], [1, false]],
  ])('writes what an %s holds, as it is, and refuses the rest', (type, good, bad) => {
    const dialect = preset('sparkplug');
    const metric = { name: 'x', type, value: type === 'String' ? '' : 0 };
    hear(dialect, 'spBv1.0/plant/NBIRTH/edge-1', bytes({ seq: 0, metrics: [metric] }));
    for (const value of good) {
      const [publish] = dialect.planWrite('plant.edge-1', 'x', value)?.publish ?? [];
      const [written] = decodeSparkplug(publish?.payload ?? new Uint8Array())?.metrics ?? [];
      expect(String(written?.value(undefined))).toBe(String(value));
    }
    for (const value of bad) {
      expect(() => dialect.planWrite('plant.edge-1', 'x', value), String(value)).toThrow(`type ${type}`);
    }
  });

  it('tells what is no payload', () => {
    expect(hear(born(), 'spBv1.0/plant/NDATA/edge-1', Buffer.from([0xff, 0xff, 0xff]))?.told[0]?.fault).toBe(
      'payload_not_sparkplug',
    );
  });
});

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
