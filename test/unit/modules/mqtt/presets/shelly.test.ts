// Shelly of both generations.

import { describe, expect, it } from 'vitest';
import type { Device } from '../../../../../modules/mqtt/devices.ts';
import type { Dialect } from '../../../../../modules/mqtt/dialect.ts';
import { Writer } from '../../../../../modules/mqtt/writer.ts';
import { parseDeviceId } from '../../../../../src/core/device.ts';
import { SystemClock } from '../../../../../src/platform/clock.ts';
import { preset, hear, told, values, sent } from './harness.ts';

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
