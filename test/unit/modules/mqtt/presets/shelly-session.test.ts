// Shelly devices that answer what they are asked, as the documentation has it: of generation 2,
// https://shelly-api-docs.shelly.cloud/gen2/General/RPCProtocol, …/Notifications and …/ComponentsAndServices/Cover and …/Light.

import { describe, expect, it } from 'vitest';
import { Devices } from '../../../../../modules/mqtt/devices.ts';
import type { Publish } from '../../../../../modules/mqtt/dialect.ts';
import { createIntake } from '../../../../../modules/mqtt/intake.ts';
import { createPreset } from '../../../../../modules/mqtt/presets/presets.ts';
import { Writer } from '../../../../../modules/mqtt/writer.ts';
import { parseDeviceId } from '../../../../../src/core/device.ts';
import type { PointValue } from '../../../../../src/core/reading.ts';
import { record } from '../harness.ts';

type Components = Record<string, Record<string, unknown>>;

interface Request {
  readonly id: number | string;
  readonly src: string;
  readonly method: string;
  readonly params?: Readonly<Record<string, unknown>>;
}

const DEVICE = parseDeviceId('shellyplus2pm-a8032abe54dc');
const GOOD = { level: 'good' };
const UNCONFIRMED = { quality: { level: 'uncertain', reason: 'unconfirmed' } };
const COVER = { id: 0, source: 'init', state: 'stopped', current_pos: 40, pos_control: true };

/** An adapter with the preset; `respond` is the device: what it says to a request, as topics with payloads. */
function adapter(respond: (publish: Publish) => readonly (readonly [topic: string, payload: string])[]) {
  const recording = record();
  const devices = new Devices(recording.context, (deviceId, points) => ({ deviceId, points }));
  const dialect = createPreset('shelly', recording.context);
  const sent: string[] = [];
  const publish = (message: Publish): void => {
    sent.push(`${message.topic} ${Buffer.from(message.payload).toString()}`);
    for (const [topic, payload] of respond(message)) hear(topic, payload);
  };
  const writer = new Writer({ ...recording.context.clock, after: soon }, (message) =>
    Promise.resolve(publish(message)),
  );
  const intake = createIntake({
    context: recording.context,
    dialects: [dialect],
    devices,
    witness: writer,
    ask: publish,
    configuredPoints: [],
  });
  const hear = (topic: string, payload: string | object, replayed = false): void => {
    const text = typeof payload === 'string' ? payload : JSON.stringify(payload);
    void intake.take({ topic, payload: Buffer.from(text), replayed, isAwaited: false }, undefined);
  };
  const write = (deviceId: string, point: string, value: PointValue) =>
    writer.write(
      devices.get(deviceId),
      { deviceId: parseDeviceId(deviceId), point, value },
      new AbortController().signal,
    );
  return { ...recording, hear, write, sent, points: (id: string) => devices.get(id)?.info.points ?? [] };
}

/** Waits of the writer are over once all that was said is heard. */
function soon(_ms: number, done: () => void): () => void {
  const timer = setImmediate(done);
  return () => clearImmediate(timer);
}

/** A device of generation 2 with its factory settings: it answers, and tells nothing by itself. */
function generation2(components: Components, set: (request: Request) => object | null) {
  return adapter(({ topic, payload }) => {
    if (topic !== `${DEVICE}/rpc`) return [];
    const request = JSON.parse(Buffer.from(payload).toString()) as Request;
    const [kind = '', method] = request.method.split('.');
    const name = `${kind.toLowerCase()}:${String(request.params?.['id'])}`;
    const result =
      request.method === 'Shelly.GetStatus' ? components : method === 'GetStatus' ? components[name] : set(request);
    return [[`${request.src}/rpc`, JSON.stringify({ id: request.id, src: DEVICE, dst: request.src, result })]];
  });
}

describe('generation 1', () => {
  // https://shelly-api-docs.shelly.cloud/gen1/#shelly-rgbw2-color-mqtt and …-white-mqtt
  it.each(['relay/0', 'light/0', 'white/3', 'color/0'])('writes %s, which is shown as writable', async (point) => {
    const topic = `shellies/shellyrgbw2-AABBCC/${point}`;
    const rgbw = adapter((sent) => (sent.topic === `${topic}/command` ? [[topic, 'on']] : []));
    rgbw.hear(topic, 'off');
    expect(rgbw.points('shellyrgbw2-AABBCC')).toMatchObject([{ name: point, writable: true }]);
    expect(await rgbw.write('shellyrgbw2-AABBCC', point, true)).toEqual({ readBack: true, quality: GOOD });
    expect(rgbw.sent).toEqual([`${topic}/command on`]);
  });
});

describe('writes to generation 2', () => {
  it('reads a light back, which answers null and tells changes only', async () => {
    const light: Record<string, unknown> = { id: 0, source: 'init', output: true, brightness: 55 };
    const device = generation2({ 'light:0': light }, ({ params = {} }) => {
      if (params['on'] !== undefined) light['output'] = params['on'];
      if (params['brightness'] !== undefined) light['brightness'] = params['brightness'];
      return null;
    });
    device.hear(`${DEVICE}/online`, 'true');
    expect(await device.write(DEVICE, 'light:0.brightness', 55)).toEqual({ readBack: 55, quality: GOOD });
    expect(await device.write(DEVICE, 'light:0.brightness', 20)).toEqual({ readBack: 20, quality: GOOD });
    expect(await device.write(DEVICE, 'light:0.output', true)).toEqual({ readBack: true, quality: GOOD });
    expect(device.value(DEVICE, 'light:0.brightness')).toBe(20);
  });

  it('takes a shutter that is on its way for confirmed, and gives where it is', async () => {
    const cover: Record<string, unknown> = { ...COVER };
    const device = generation2({ 'cover:0': cover }, ({ params = {} }) => {
      Object.assign(cover, { state: 'opening', target_pos: params['pos'], source: 'rpc' });
      return null;
    });
    device.hear(`${DEVICE}/online`, 'true');
    expect(await device.write(DEVICE, 'cover:0.current_pos', 90)).toEqual({ readBack: 90, quality: GOOD });
    expect(device.value(DEVICE, 'cover:0.current_pos')).toBe(40);
  });

  it('takes a light in a transition for confirmed', async () => {
    const light: Record<string, unknown> = { id: 0, output: true, brightness: 10 };
    const device = generation2({ 'light:0': light }, () => {
      light['transition'] = { target: { output: true, brightness: 80 }, started_at: 1_631_186_545.04, duration: 30 };
      return null;
    });
    device.hear(`${DEVICE}/online`, 'true');
    expect(await device.write(DEVICE, 'light:0.brightness', 80)).toEqual({ readBack: 80, quality: GOOD });
  });

  it('says what is otherwise after it was accepted, and what nobody told', async () => {
    const deaf = generation2({ 'cover:0': COVER }, () => null);
    deaf.hear(`${DEVICE}/online`, 'true');
    await expect(deaf.write(DEVICE, 'cover:0.current_pos', 90)).rejects.toMatchObject({
      code: 'GW_WRITE_VERIFY',
      details: { readBack: '40' },
    });
    const curt = adapter(({ payload }) => {
      const { id, src } = JSON.parse(Buffer.from(payload).toString()) as Request;
      // What it said before the write may be older than it.
      const status = { method: 'NotifyStatus', params: { 'light:0': { id: 0, output: false } } };
      const old = [`${DEVICE}/events/rpc`, JSON.stringify(status)] as const;
      return typeof id === 'number' ? [old, [`${src}/rpc`, JSON.stringify({ id, result: null })]] : [];
    });
    curt.hear(`${DEVICE}/status/light:0`, { id: 0, output: false });
    expect(await curt.write(DEVICE, 'light:0.output', true)).toEqual(UNCONFIRMED);
  });
});

describe('the whole status of generation 2', () => {
  const components = { 'switch:0': { id: 0, output: true, apower: 8.9 }, sys: { uptime: 11 } };
  const requests = ({ sent }: { readonly sent: readonly string[] }): number =>
    sent.filter((text) => text.includes('"method":"Shelly.GetStatus"')).length;

  it.each([
    ['connects', `${DEVICE}/online`, 'true', false],
    ['was there before', `${DEVICE}/online`, 'true', true],
    ['tells a change', `${DEVICE}/events/rpc`, '{"method":"NotifyStatus","params":{"switch:0":{"id":0}}}', false],
  ])('is asked for once the device %s', (_what, topic, payload, replayed) => {
    const device = generation2(components, () => null);
    device.hear(topic, payload, replayed);
    expect(device.value(DEVICE, 'switch:0.output')).toBe(true);
    expect(device.points(DEVICE).map(({ name }) => name)).toEqual(['switch:0.output', 'switch:0.apower']);
    device.hear(`${DEVICE}/events/rpc`, { method: 'NotifyStatus', params: { 'switch:0': { apower: 9 } } });
    expect(requests(device)).toBe(1);
    // What was known may have changed while it was away.
    device.hear(`${DEVICE}/online`, 'false');
    device.hear(`${DEVICE}/online`, 'true');
    expect(requests(device)).toBe(2);
  });

  it('is asked for again where no answer comes, but not without end', () => {
    const mute = adapter(() => []);
    for (let count = 0; count < 10; count += 1) mute.hear(`${DEVICE}/status/switch:0`, { id: 0, output: true });
    expect(requests(mute)).toBe(5);
  });

  it('is not asked for where the device tells it by itself, as with a battery', () => {
    const sleeper = adapter(() => []);
    const params = { 'temperature:0': { id: 0, tC: 21.5 } };
    sleeper.hear(`${DEVICE}/events/rpc`, { method: 'NotifyFullStatus', params });
    sleeper.hear(`${DEVICE}/online`, 'false');
    sleeper.hear(`${DEVICE}/online`, 'true');
    expect(sleeper.sent).toEqual([]);
  });

  it('is not asked of generation 1', () => {
    const first = adapter(() => []);
    first.hear('shellies/shelly1-B929CC/online', 'true');
    first.hear('shellies/shelly1-B929CC/relay/0', 'on');
    expect(first.sent).toEqual([]);
  });
});
