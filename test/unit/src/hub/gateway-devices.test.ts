import { setImmediate } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import type { DeviceInfo } from '../../../../src/core/adapter.ts';
import type { CommandAnswer, CommandOptions, DeviceCommand } from '../../../../src/core/command.ts';
import { parseDeviceId } from '../../../../src/core/device.ts';
import { GatewayError } from '../../../../src/core/errors.ts';
import type { JsonValue, PointValue } from '../../../../src/core/reading.ts';
import type { StateSpace } from '../../../../src/core/state.ts';
import { createDeviceRegistry, type DeviceRegistry } from '../../../../src/devices/device-registry.ts';
import { createMemoryStateStore } from '../../../../src/store/state/memory-state-store.ts';
import { HUB, hubRig, refusalOf, type HubRig } from '../../../support/hub.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { waitFor } from '../../../support/wait.ts';

const meter = { deviceId: 'meter-1' };
const info: DeviceInfo = {
  deviceId: parseDeviceId('meter-1'),
  points: [
    { name: 'relay', address: 'coil:0', writable: true },
    { name: 'level', address: 'holding:0', writable: true },
    { name: 'power', address: 'input:0', writable: false },
  ],
  actions: ['restart'],
};

let registry: DeviceRegistry;
let rig: HubRig;
let asked: { readonly command: DeviceCommand; readonly actor: string; readonly id?: string | undefined }[];
/** What the device holds after a write, where it is not what was written. */
let held: Record<string, JsonValue>;
let answer: CommandAnswer['status'];
/** What was done of a command that failed. */
let done: CommandAnswer['values'];
/** Whether a command touches the device. */
let begins: boolean;
/** Whether the device is offline once it was asked. */
let goesAway: boolean;
/** Whether the store takes anything. */
let isStoreAway: boolean;

function run(command: DeviceCommand, { actor, id, onBegun }: CommandOptions): Promise<CommandAnswer> {
  asked.push(id === undefined ? { command, actor } : { command, actor, id });
  if (begins) onBegun?.();
  if (goesAway) registry.report(info.deviceId, 'offline', 'timeout');
  if (answer !== 200) return Promise.resolve({ status: answer, reason: 'no', ...(done && { values: done }) });
  if (command.kind === 'action') return Promise.resolve({ status: 200, payload: 'done' });
  return Promise.resolve({ status: 200, values: { ...(command.values as Record<string, JsonValue>), ...held } });
}

async function applyDesired(deviceId: string, patch: Readonly<Record<string, PointValue>>, by: { actor: string }) {
  const answers: Record<string, CommandAnswer> = {};
  for (const [point, value] of Object.entries(patch)) {
    answers[point] = await run({ kind: 'write', deviceId, values: { [point]: value } }, by);
  }
  return answers;
}

beforeEach(async () => {
  const clock = new ManualClock();
  asked = [];
  held = {};
  answer = 200;
  done = undefined;
  begins = true;
  goesAway = false;
  isStoreAway = false;
  const state = await createMemoryStateStore({ clock, telemetry: { emit: () => {} } });
  registry = createDeviceRegistry(clock, { emit: () => {} });
  rig = await hubRig({
    clock,
    state: { ...state, space: (name) => failing(state.space(name)) },
    field: { registry, dispatcher: { run, applyDesired }, autoRegister: true },
  });
  registry.setAdapter('bus-1', [info]);
  await waitFor(() => rig.hub.identities.device(HUB, 'meter-1').catch(() => undefined));
});

/** More than it takes to register a device, or to write to one. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 50; turn += 1) await setImmediate();
}

function failing(space: StateSpace): StateSpace {
  const away = () => Promise.reject(new GatewayError('GW_STORE_OPEN', 'away'));
  return {
    get: (key) => (isStoreAway ? away() : space.get(key)),
    entries: (...range) => space.entries(...range),
    write: (changes) => (isStoreAway ? away() : space.write(changes)),
  };
}

function invoke(name: string, payload: unknown) {
  const call = { responseTimeoutMs: 5000, connectTimeoutMs: 0, caller: 'service' };
  return rig.hub.methods.invoke(HUB, meter, { ...call, name, payload: Buffer.from(JSON.stringify(payload)) });
}

async function reported(): Promise<Record<string, unknown>> {
  const { properties } = (await rig.hub.twins.get(HUB, meter)) as { properties: { reported: Record<string, unknown> } };
  const { $metadata: _metadata, $version: _version, ...values } = properties.reported;
  return values;
}

const written = () => asked.map(({ command }) => (command.kind === 'write' ? command.values : command.action));

describe('devices of adapters in the hub', () => {
  it('are registered when they show themselves, once, without credentials', async () => {
    const device = await rig.hub.identities.device(HUB, 'meter-1');
    expect(device).toMatchObject({ isGatewayDevice: true, authentication: { type: 'none' } });
    registry.setAdapter('bus-1', [{ ...info }]);
    registry.add('bus-1', { ...info, deviceId: parseDeviceId('late') });
    await waitFor(() => rig.hub.identities.device(HUB, 'late').catch(() => undefined));
    expect((await rig.hub.identities.device(HUB, 'meter-1')).generationId).toBe(device.generationId);
    expect((await rig.hub.identities.statistics(HUB)).totalDeviceCount).toBe(2);
  });

  it('are connected while they are good', async () => {
    const state = async () => (await rig.hub.identities.device(HUB, 'meter-1')).connectionState;
    expect(await state()).toBe('Disconnected');
    registry.report(info.deviceId, 'good');
    expect(await state()).toBe('Connected');
    expect(await rig.hub.twins.get(HUB, meter)).toMatchObject({ connectionState: 'Connected' });
    registry.report(info.deviceId, 'offline', 'timeout');
    expect(await state()).toBe('Disconnected');
  });

  it('are written by a direct method, and report what they confirmed', async () => {
    expect(await refusalOf(invoke('write', { relay: true }))).toBe('DeviceNotOnline');
    registry.report(info.deviceId, 'good');
    held = { level: 4.5 };
    const { status, payload } = await invoke('write', { values: { relay: true, level: 4.4 } });
    expect(status).toBe(200);
    expect(JSON.parse(Buffer.from(payload).toString())).toEqual({ values: { relay: true, level: 4.5 } });
    expect(asked).toEqual([
      { actor: 'hub:service', command: { kind: 'write', ...meter, values: { relay: true, level: 4.4 } } },
    ]);
    await waitFor(async () => 'relay' in (await reported()));
    expect(await reported()).toEqual({ relay: true, level: 4.5 });
    await invoke('write', { relay: false });
    await waitFor(async () => (await reported())['relay'] === false);
    expect(JSON.parse(Buffer.from((await invoke('restart', null)).payload).toString())).toEqual({ payload: 'done' });
    expect(await refusalOf(invoke('write', [1]))).toBe('ArgumentInvalid');
    answer = 504;
    expect(await refusalOf(invoke('write', { relay: true }))).toBe('GatewayTimeout');
    answer = 400;
    expect((await invoke('write', { relay: true })).status).toBe(400);
  });

  it('follow their desired properties, also those that changed while they were away', async () => {
    registry.report(info.deviceId, 'good');
    await rig.hub.twins.patch(HUB, meter, { desired: { relay: true, deep: { a: 1 } } }, '*');
    await waitFor(async () => (await reported())['relay'] === true);
    expect(asked.map(({ actor }) => actor)).toEqual(['hub:desired']);
    expect(written()).toEqual([{ relay: true }]);
    registry.report(info.deviceId, 'offline', 'timeout');
    await rig.hub.twins.patch(HUB, meter, { desired: { level: 3 } }, '*');
    registry.report(info.deviceId, 'good');
    await waitFor(async () => (await reported())['level'] === 3);
    expect(written()).toEqual([{ relay: true }, { level: 3 }]);
    expect(await reported()).toEqual({ relay: true, level: 3 });
  });

  it('report which desired properties were refused, and why, until they are confirmed or desired no more', async () => {
    registry.report(info.deviceId, 'good');
    await rig.hub.twins.patch(HUB, meter, { desired: { level: 3 } }, '*');
    await waitFor(async () => (await reported())['level'] === 3);
    answer = 400;
    await rig.hub.twins.patch(HUB, meter, { desired: { level: 9, relay: { on: true }, power: 5 } }, '*');
    await waitFor(async () => 'power' in (await reported()));
    const ad = { cannot: 'The point cannot be written.', takes: 'A point takes a number, a boolean or a text.' };
    expect(await reported()).toEqual({
      level: { value: 3, ac: 400, av: 3, ad: 'no' },
      relay: { ac: 400, av: 3, ad: ad.takes },
      power: { ac: 400, av: 3, ad: ad.cannot },
    });
    expect(written()).toEqual([{ level: 3 }, { level: 9 }]);
    // The value that was confirmed last stays, however often another is refused.
    await rig.hub.twins.patch(HUB, meter, { desired: { level: 10, relay: null } }, '*');
    await waitFor(async () => !('relay' in (await reported())));
    expect((await reported())['level']).toEqual({ value: 3, ac: 400, av: 4, ad: 'no' });
    answer = 200;
    await rig.hub.twins.patch(HUB, meter, { desired: { level: 4 } }, '*');
    await waitFor(async () => (await reported())['level'] === 4);
    answer = 504;
    await rig.hub.twins.patch(HUB, meter, { desired: { level: 5 } }, '*');
    await waitFor(async () => typeof (await reported())['level'] === 'object');
    await rig.hub.twins.replace(HUB, meter, { desired: {} }, '*');
    await waitFor(async () => !('power' in (await reported())));
    expect(await reported()).toEqual({ level: 4 });
  });

  it('report which desired properties are none of their points, if it is a value and there are few', async () => {
    registry.report(info.deviceId, 'good');
    const part = { __t: 'c', relay: false };
    await rig.hub.twins.patch(HUB, meter, { desired: { relai: true, part, relay: true } }, '*');
    await waitFor(async () => 'relai' in (await reported()));
    const ad = 'The device has no point of this name.';
    expect(await reported()).toEqual({ relay: true, relai: { ac: 400, av: 2, ad } });
    registry.report(info.deviceId, 'offline', 'timeout');
    const many = Object.fromEntries(Array.from({ length: 2000 }, (_, index) => [`n${index}`, 1]));
    await rig.hub.twins.patch(HUB, meter, { desired: { relai: null, ['n'.repeat(1000)]: 1, ...many, level: 3 } }, '*');
    registry.report(info.deviceId, 'good');
    await waitFor(async () => (await reported())['level'] === 3);
    const names = Array.from({ length: 16 }, (_, index) => `n${index}`);
    expect(Object.keys(await reported()).toSorted()).toEqual(['level', 'relay', ...names].toSorted());
    await rig.hub.twins.replace(HUB, meter, { desired: { level: 4 } }, '*');
    await waitFor(async () => !('n0' in (await reported())));
    expect(await reported()).toEqual({ relay: true, level: 4 });
    expect(written()).toEqual([{ relay: true }, { level: 3 }, { level: 4 }]);
  });

  it('are shut out while their identity is disabled, and come back with what waited', async () => {
    registry.report(info.deviceId, 'good');
    await waitFor(() => rig.hub.generationOf(HUB, 'meter-1'));
    expect(rig.hub.admits('meter-1')).toBe(true);
    const identity = await rig.hub.identities.putDevice(HUB, { ...meter, status: 'disabled' }, '*');
    expect(identity.connectionState).toBe('Disconnected');
    expect(rig.hub.admits('meter-1')).toBe(false);
    expect(rig.hub.admits('meter-2')).toBe(true);
    expect(await refusalOf(invoke('write', { relay: true }))).toBe('DeviceNotOnline');
    const body = Buffer.from('{"level":2}');
    await rig.hub.commands.send(HUB, meter, { body, properties: {}, messageId: 'm', ack: 'full' });
    await rig.hub.twins.patch(HUB, meter, { desired: { relay: true } }, '*');
    registry.report(info.deviceId, 'offline', 'timeout');
    registry.report(info.deviceId, 'good');
    await settled();
    expect(asked).toEqual([]);
    await rig.hub.identities.putDevice(HUB, { ...meter, status: 'enabled' }, '*');
    expect(rig.hub.admits('meter-1')).toBe(true);
    await waitFor(() => asked.length === 2);
    expect(written()).toEqual(expect.arrayContaining([{ relay: true }, { level: 2 }]));
    expect((await rig.hub.identities.device(HUB, 'meter-1')).connectionState).toBe('Connected');
  });

  it('are shut out when their identity is deleted, until they come back', async () => {
    registry.report(info.deviceId, 'good');
    await waitFor(() => rig.hub.generationOf(HUB, 'meter-1'));
    await rig.hub.identities.deleteDevice(HUB, 'meter-1', '*');
    expect(rig.hub.admits('meter-1')).toBe(false);
    expect(await refusalOf(invoke('write', { relay: true }))).toBe('DeviceNotFound');
    registry.report(info.deviceId, 'degraded', 'timeout');
    registry.report(info.deviceId, 'offline', 'timeout');
    await settled();
    expect(await refusalOf(rig.hub.identities.device(HUB, 'meter-1'))).toBe('DeviceNotFound');
    registry.report(info.deviceId, 'good');
    await waitFor(() => rig.hub.admits('meter-1'));
    expect((await rig.hub.identities.device(HUB, 'meter-1')).status).toBe('enabled');
  });

  it('are shut out while they have no identity, where none is made by itself', async () => {
    const { clock } = rig;
    const shut: unknown[] = [];
    rig = await hubRig({
      clock,
      field: { registry, dispatcher: { run, applyDesired }, autoRegister: false },
      telemetry: { emit: (event, fields) => void (event === 'hub_device_shut_out' && shut.push(fields)) },
    });
    await waitFor(() => !rig.hub.admits('meter-1'));
    registry.report(info.deviceId, 'good');
    await settled();
    expect(shut).toEqual([{ device: 'meter-1', reason: 'unregistered' }]);
    expect(rig.hub.admits('meter-1')).toBe(false);
    await rig.hub.identities.putDevice(HUB, meter, undefined);
    expect(rig.hub.admits('meter-1')).toBe(true);
    expect((await rig.hub.identities.device(HUB, 'meter-1')).connectionState).toBe('Connected');
    await rig.hub.identities.deleteDevice(HUB, 'meter-1', '*');
    registry.report(info.deviceId, 'offline', 'timeout');
    registry.report(info.deviceId, 'good');
    await settled();
    expect(rig.hub.admits('meter-1')).toBe(false);
  });

  it('are registered again by and by when the store is away as they come back', async () => {
    registry.report(info.deviceId, 'good');
    await waitFor(() => rig.hub.generationOf(HUB, 'meter-1'));
    await rig.hub.identities.deleteDevice(HUB, 'meter-1', '*');
    registry.report(info.deviceId, 'offline', 'timeout');
    isStoreAway = true;
    registry.report(info.deviceId, 'good');
    for (const pauseMs of [1000, 2000]) {
      await settled();
      rig.clock.advance(pauseMs);
    }
    await settled();
    isStoreAway = false;
    rig.clock.advance(3999);
    await settled();
    expect(rig.hub.admits('meter-1')).toBe(false);
    rig.clock.advance(1);
    await waitFor(() => rig.hub.admits('meter-1'));
    expect((await rig.hub.identities.device(HUB, 'meter-1')).status).toBe('enabled');
  });

  it('that were deleted once more are not registered by what was tried before', async () => {
    registry.report(info.deviceId, 'good');
    await waitFor(() => rig.hub.generationOf(HUB, 'meter-1'));
    await rig.hub.identities.deleteDevice(HUB, 'meter-1', '*');
    registry.report(info.deviceId, 'offline', 'timeout');
    isStoreAway = true;
    registry.report(info.deviceId, 'good');
    await settled();
    isStoreAway = false;
    await rig.hub.identities.putDevice(HUB, meter, undefined);
    await rig.hub.identities.deleteDevice(HUB, 'meter-1', '*');
    rig.clock.advance(60_000);
    await settled();
    expect(await refusalOf(rig.hub.identities.device(HUB, 'meter-1'))).toBe('DeviceNotFound');
  });

  it('are looked at anew when they come back into the configuration', async () => {
    registry.report(info.deviceId, 'good');
    const before = await waitFor(() => rig.hub.generationOf(HUB, 'meter-1'));
    registry.setAdapter('bus-1', []);
    await rig.hub.identities.deleteDevice(HUB, 'meter-1', '*');
    expect(rig.hub.generationOf(HUB, 'meter-1')).toBeUndefined();
    rig.clock.advance(1000);
    registry.setAdapter('bus-1', [info]);
    const after = await waitFor(() => rig.hub.generationOf(HUB, 'meter-1'));
    expect(after).not.toBe(before);
    expect((await rig.hub.identities.device(HUB, 'meter-1')).generationId).toBe(after);
    // Also when it was disabled meanwhile.
    registry.setAdapter('bus-1', []);
    await rig.hub.identities.putDevice(HUB, { ...meter, status: 'disabled' }, '*');
    registry.setAdapter('bus-1', [info]);
    await waitFor(() => rig.hub.generationOf(HUB, 'meter-1') === after && !rig.hub.admits('meter-1'));
  });

  it('tell when they were connected or disconnected last, also by what is done to their identity', async () => {
    const timeOf = async () => (await rig.hub.identities.device(HUB, 'meter-1')).connectionStateUpdatedTime;
    const at = (minute: number) => `2026-01-02T03:0${4 + minute}:05.000Z`;
    const put = (status: 'enabled' | 'disabled') => rig.hub.identities.putDevice(HUB, { ...meter, status }, '*');
    registry.report(info.deviceId, 'good');
    await waitFor(() => rig.hub.generationOf(HUB, 'meter-1'));
    rig.clock.advance(60_000);
    registry.report(info.deviceId, 'degraded', 'timeout');
    expect(await timeOf()).toBe(at(0));
    expect((await put('disabled')).connectionStateUpdatedTime).toBe(at(1));
    rig.clock.advance(60_000);
    registry.report(info.deviceId, 'offline', 'timeout');
    expect(await timeOf()).toBe(at(1));
    registry.report(info.deviceId, 'good');
    expect((await put('enabled')).connectionStateUpdatedTime).toBe(at(2));
    registry.report(info.deviceId, 'offline', 'timeout');
    rig.clock.advance(60_000);
    await put('disabled');
    expect((await put('enabled')).connectionStateUpdatedTime).toBe(at(2));
    await rig.hub.identities.deleteDevice(HUB, 'meter-1', '*');
    await rig.hub.identities.putDevice(HUB, meter, undefined);
    await waitFor(() => rig.hub.generationOf(HUB, 'meter-1'));
    expect(await timeOf()).toBe(at(3));
  });

  it('report what a write did that was done in part', async () => {
    registry.report(info.deviceId, 'good');
    answer = 400;
    done = { relay: false };
    expect((await invoke('write', { relay: false, level: 500 })).status).toBe(400);
    await waitFor(async () => (await reported())['relay'] === false);
  });

  it('were active when they were heard last', async () => {
    const active = async () => (await rig.hub.identities.device(HUB, 'meter-1')).lastActivityTime;
    expect(await active()).toBe('0001-01-01T00:00:00Z');
    registry.report(info.deviceId, 'good');
    expect(await active()).toBe('2026-01-02T03:04:05.000Z');
    rig.clock.advance(60_000);
    rig.hub.admits('meter-1');
    expect(await active()).toBe('2026-01-02T03:05:05.000Z');
  });

  describe('take cloud-to-device messages', () => {
    const command = (body: unknown, properties = {}) => {
      const bytes = Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
      return { body: bytes, properties, messageId: `m${JSON.stringify(body)}`, ack: 'full' as const };
    };
    const waiting = async () => (await rig.hub.identities.device(HUB, 'meter-1')).cloudToDeviceMessageCount;
    const over = () => waitFor(async () => (await waiting()) === 0);

    async function feedback(): Promise<Record<string, string>> {
      rig.clock.advance(15_000);
      const batch = await rig.hub.commands.receiveFeedback(HUB, AbortSignal.timeout(2000));
      return Object.fromEntries(
        (batch?.records ?? []).map(({ originalMessageId, statusCode }) => [originalMessageId, statusCode]),
      );
    }

    it('once they are good, in order, as writes and as actions', async () => {
      await rig.hub.commands.send(HUB, meter, command({ values: { relay: true } }));
      await rig.hub.commands.send(HUB, meter, command({ level: 2 }));
      await rig.hub.commands.send(HUB, meter, command('', { 'fieldpost-command': 'restart' }));
      expect(await waiting()).toBe(3);
      expect(asked).toEqual([]);
      registry.report(info.deviceId, 'good');
      await over();
      expect(written()).toEqual([{ relay: true }, { level: 2 }, 'restart']);
      expect(new Set(asked.map(({ actor }) => actor))).toEqual(new Set(['hub:message']));
      await waitFor(async () => (await reported())['level'] === 2);
      await rig.hub.commands.send(HUB, meter, command({ relay: false }));
      await over();
      expect(Object.values(await feedback())).toEqual(['Success', 'Success', 'Success', 'Success']);
    });

    it('and reject what they do not understand, refuse or do not do', async () => {
      registry.report(info.deviceId, 'good');
      await rig.hub.commands.send(HUB, meter, command('hello'));
      await over();
      answer = 400;
      await rig.hub.commands.send(HUB, meter, command({ level: 99 }));
      await over();
      // It was begun, so that nobody may send it again.
      answer = 504;
      await rig.hub.commands.send(HUB, meter, command({ level: 98 }));
      await over();
      expect(Object.values(await feedback())).toEqual(['Rejected', 'Rejected', 'Rejected']);
    });

    it('that wait again when they were not begun', async () => {
      registry.report(info.deviceId, 'good');
      answer = 503;
      await rig.hub.commands.send(HUB, meter, command({ level: 1 }));
      await waitFor(() => asked.length === 1);
      answer = 200;
      await waitFor(() => {
        rig.clock.advance(60_000);
        return asked.length === 2;
      });
      await over();
      begins = false;
      answer = 504;
      goesAway = true;
      await rig.hub.commands.send(HUB, meter, command({ level: 3 }));
      await waitFor(() => asked.length === 3);
      answer = 200;
      expect(await waiting()).toBe(1);
      goesAway = false;
      registry.report(info.deviceId, 'good');
      await over();
      expect(new Set(asked.map(({ id }) => id)).size).toBe(3);
      expect(Object.values(await feedback())).toEqual(['Success', 'Success']);
    });

    it('that expire while they are away', async () => {
      await rig.hub.commands.send(HUB, meter, { ...command({ level: 1 }), expiresAtMs: rig.clock.wallMs() + 1000 });
      rig.clock.advance(1500);
      registry.report(info.deviceId, 'good');
      await over();
      expect(asked).toEqual([]);
      expect(Object.values(await feedback())).toEqual(['Expired']);
    });
  });

  it('are counted as connected, and name their generation in their messages', async () => {
    const { generationId } = await rig.hub.identities.device(HUB, 'meter-1');
    expect(rig.hub.generationOf(HUB, 'meter-1')).toBe(generationId);
    expect((await rig.hub.identities.statistics(HUB)).connectedDeviceCount).toBe(0);
    registry.report(info.deviceId, 'good');
    expect((await rig.hub.identities.statistics(HUB)).connectedDeviceCount).toBe(1);
    await rig.hub.identities.deleteDevice(HUB, 'meter-1', '*');
    expect(rig.hub.generationOf(HUB, 'meter-1')).toBeUndefined();
    const again = await rig.hub.identities.putDevice(HUB, meter, undefined);
    await waitFor(() => rig.hub.generationOf(HUB, 'meter-1') === again.generationId);
  });

  it('are let in by no token', async () => {
    const text =
      'SharedAccessSignature sr=hub.local.test%2Fdevices%2Fmeter-1&sig=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY%3D&se=2000000000';
    expect(await refusalOf(rig.login(meter, text))).toBe('IotHubUnauthorizedAccess');
  });
});
