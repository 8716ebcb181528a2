// Direct methods and cloud-to-device messages over AMQP: to the gateway, and to leaf devices on the same connection.

import { describe, expect, it } from 'vitest';
import type { CommandAnswer, CommandOptions, DeviceCommand } from '../../src/core/command.ts';
import type { DeviceId } from '../../src/core/device.ts';
import type { CommandOutcome } from '../../src/core/hub/session.ts';
import type { CloudCommand, SessionDevices } from '../../src/core/session-devices.ts';
import { iotHubErrorName } from '../../src/iothub/errors.ts';
import { deriveDeviceKey } from '../../src/iothub/group-key.ts';
import { hmacSha256 } from '../../src/platform/hmac.ts';
import { attachDownlink } from '../../src/upstream/downlink.ts';
import { message } from '../support/builders.ts';
import { HUB } from '../support/hub.ts';
import { HUB_DEVICE, iotHubRig, type IotHubRig } from '../support/iothub-upstream.ts';
import { GATEWAY_ID, recordingTelemetry } from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.151.2';
const NEVER = new AbortController().signal;
const GROUP_KEY = Buffer.alloc(64, 3).toString('base64');

/** @param sessions of a local hub, whose links may be idle for a second. */
async function downRig(devices: readonly string[], sessions?: SessionDevices) {
  const rig: IotHubRig = await iotHubRig(ADDRESS, 'amqp');
  const { hub } = rig.hub.hub;
  for (const deviceId of devices) {
    const primaryKey = deriveDeviceKey(GROUP_KEY, deviceId, { hmacSha256 });
    const authentication = { type: 'sas', symmetricKey: { primaryKey, secondaryKey: primaryKey } } as const;
    await hub.identities.putDevice(HUB, { deviceId, authentication }, undefined);
  }
  const group = { leaf_devices: { identity: 'group_key', group_key: GROUP_KEY } } as const;
  const transport = rig.transport({
    ...(devices.length > 0 && group),
    ...(sessions !== undefined && { link_idle_secs: 1 }),
  });
  const asked: { readonly command: DeviceCommand; readonly options: CommandOptions }[] = [];
  const away = new Set<string>();
  const down = {
    rig,
    transport,
    asked,
    away,
    told: recordingTelemetry(),
    answer: (_command: DeviceCommand): CommandAnswer | Promise<CommandAnswer> => ({
      status: 200,
      values: { on: true },
    }),
    async invoke(deviceId: string, name: string, payload: unknown) {
      const call = {
        name,
        payload: Buffer.from(JSON.stringify(payload)),
        responseTimeoutMs: 10_000,
        connectTimeoutMs: 0,
      };
      const answer = await hub.methods.invoke(HUB, { deviceId }, call);
      return { status: answer.status, payload: JSON.parse(Buffer.from(answer.payload).toString()) as unknown };
    },
    /** Waits until methods can be called: the links are opened in the background. */
    listening: (deviceId: string) =>
      waitFor(() =>
        down.invoke(deviceId, 'ping', {}).then(
          () => true,
          () => false,
        ),
      ),
    send: (deviceId: string, body: unknown, properties: Readonly<Record<string, string>> = {}, messageId?: string) =>
      hub.commands.send(
        HUB,
        { deviceId },
        {
          body: Buffer.from(JSON.stringify(body)),
          properties,
          ack: 'full',
          ...(messageId !== undefined && { messageId }),
        },
      ),
    unsettled: async (deviceId: string) => (await hub.identities.device(HUB, deviceId)).cloudToDeviceMessageCount,
    telemetry: (device: string, number: number) =>
      transport.send(
        [{ offset: number, seq: number, epoch: 'e', messageId: `e.${device}.${number}`, message: message({ device }) }],
        NEVER,
      ),
    [Symbol.asyncDispose]: async () => {
      await transport.close();
      await rig[Symbol.asyncDispose]();
    },
  };
  attachDownlink(transport, {
    name: '$upstream',
    gatewayId: GATEWAY_ID,
    dispatcher: {
      run: async (command: DeviceCommand, options: CommandOptions) => {
        asked.push({ command, options });
        return down.answer(command);
      },
      isAway: (deviceId: string) => away.has(deviceId),
    },
    ...(sessions !== undefined && { sessions }),
    telemetry: down.told,
  });
  await transport.open(NEVER);
  return down;
}

const WRITE = { kind: 'write', deviceId: 'meter-1', values: { on: true } } as const;

describe('direct methods over AMQP', () => {
  it('are answered with status and payload, for the gateway and for leaf devices on one connection', async () => {
    await using down = await downRig(['meter-1']);
    await down.listening(HUB_DEVICE);
    expect(await down.invoke(HUB_DEVICE, 'writePoint', { device_id: 'meter-1', values: { on: true } })).toEqual({
      status: 200,
      payload: { values: { on: true } },
    });
    await down.telemetry('meter-1', 1);
    await down.listening('meter-1');
    down.asked.length = 0;
    down.answer = () => ({ status: 400, code: 'GW_WRITE_REFUSED', reason: 'no' });
    expect(await down.invoke('meter-1', 'write', { values: { on: true } })).toMatchObject({
      status: 400,
      payload: { reason: 'no' },
    });
    expect(down.asked.map(({ command }) => command)).toEqual([WRITE]);
    expect(down.rig.proxy.connections).toBe(1);
    // Many at once: each finds its own answer.
    down.answer = (command) => ({ status: 200, payload: 'payload' in command ? command.payload : undefined });
    const calls = Array.from({ length: 20 }, (_, index) => down.invoke('meter-1', 'echo', { index }));
    expect((await Promise.all(calls)).map(({ payload }) => payload)).toEqual(
      Array.from({ length: 20 }, (_, index) => ({ payload: { index } })),
    );
  });

  it('end with a device that is disabled, while its neighbours on the connection notice nothing', async () => {
    await using down = await downRig(['meter-1', 'meter-2']);
    for (const device of ['meter-1', 'meter-2']) {
      await down.telemetry(device, 1);
      await down.listening(device);
    }
    const { identities } = down.rig.hub.hub.hub;
    const { authentication } = await identities.device(HUB, 'meter-1');
    await identities.putDevice(HUB, { deviceId: 'meter-1', status: 'disabled', authentication }, '*');
    await waitFor(() => down.told.of('commands_not_received').length > 0, { what: 'the end of its links' });
    await down.listening('meter-2');
    expect(await down.telemetry('meter-2', 2)).toEqual([{ status: 'accepted' }]);
    expect(down.rig.proxy.acceptedTotal).toBe(1);
  });

  it('are there again after the connection was lost, for devices heard of before', async () => {
    await using down = await downRig(['meter-1']);
    await down.telemetry('meter-1', 1);
    await down.listening('meter-1');
    await down.transport.close();
    await down.transport.open(NEVER);
    await down.listening('meter-1');
  });
});

describe('cloud-to-device messages over AMQP', () => {
  it('are settled when the device has answered: completed, or put aside where it refuses', async () => {
    await using down = await downRig(['meter-1']);
    const answered = Promise.withResolvers<CommandAnswer>();
    down.answer = () => answered.promise;
    await down.send(HUB_DEVICE, { values: { on: true } }, { device_id: 'meter-1' }, 'c1');
    await waitFor(() => down.asked.length === 1);
    expect(down.asked[0]).toMatchObject({ command: WRITE, options: { id: 'c2d.c1' } });
    expect(await down.unsettled(HUB_DEVICE)).toBe(1);
    answered.resolve({ status: 200 });
    await expect.poll(() => down.unsettled(HUB_DEVICE)).toBe(0);
    down.answer = () => ({ status: 400, code: 'GW_WRITE_REFUSED', reason: 'no' });
    await down.telemetry('meter-1', 1);
    await down.send('meter-1', { values: { on: true } });
    await expect.poll(() => down.unsettled('meter-1')).toBe(0);
    expect(down.asked).toHaveLength(2);
    // Told by its place in the queue, where it has no id.
    expect(down.asked[1]?.options.id).toMatch(/^c2d\.\d+@\d+$/);
    await down.send('meter-1', 'no command');
    await expect.poll(() => down.unsettled('meter-1')).toBe(0);
    expect(down.asked).toHaveLength(2);
  });

  it('wait at the hub while their device is away, and are carried out when it is back', async () => {
    await using down = await downRig(['meter-1', 'meter-2']);
    down.away.add('meter-1');
    await down.telemetry('meter-1', 1);
    await down.telemetry('meter-2', 1);
    await down.listening('meter-1');
    down.asked.length = 0;
    await down.send('meter-1', { values: { on: true } });
    await down.send('meter-2', { values: { on: true } });
    await expect.poll(() => down.unsettled('meter-2')).toBe(0);
    expect(await down.unsettled('meter-1')).toBe(1);
    down.away.clear();
    await expect.poll(() => down.unsettled('meter-1'), { timeout: 5000 }).toBe(0);
    // Away again: the link goes, and the next message stays.
    down.away.add('meter-1');
    await waitFor(async () => {
      const before = down.asked.length;
      await down.send('meter-1', { values: { on: true } });
      await down.send('meter-2', { values: { on: true } });
      await expect.poll(() => down.unsettled('meter-2')).toBe(0);
      return down.asked.length === before + 1;
    });
  });

  it('come again when the connection was lost before the answer, and are told by their id', async () => {
    await using down = await downRig([]);
    let answers = 0;
    const first = Promise.withResolvers<CommandAnswer>();
    down.answer = () => ((answers += 1) === 1 ? first.promise : { status: 200 });
    await down.send(HUB_DEVICE, { values: { on: true } }, { device_id: 'meter-1' });
    await waitFor(() => down.asked.length === 1);
    const closed = down.transport.closed();
    down.rig.proxy.cut();
    await closed;
    first.resolve({ status: 200 });
    await down.transport.open(NEVER);
    await expect.poll(() => down.unsettled(HUB_DEVICE), { timeout: 5000 }).toBe(0);
    // The same id both times: the dispatcher answers the second from its record.
    expect(new Set(down.asked.map(({ options }) => options.id)).size).toBe(1);
    expect(down.asked).toHaveLength(2);
  });
});

/** One device of a local hub: what it takes, and what it is handed. */
function sessionRig() {
  const listeners = new Set<(deviceId: DeviceId) => void>();
  const given: { readonly command: CloudCommand; readonly settle: (outcome: CommandOutcome) => void }[] = [];
  const takes = new Set<'session' | 'methods' | 'commands'>();
  const isThere = (): boolean => takes.has('session');
  const sessions = {
    has: (deviceId: DeviceId) => deviceId === LEAF,
    isConnected: isThere,
    isWanted: isThere,
    wanted: () => (isThere() ? [LEAF] : []),
    takesMethods: () => takes.has('methods'),
    takesCommands: () => takes.has('commands'),
    watch: (listener: (deviceId: DeviceId) => void) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    invoke: () => Promise.resolve({ status: 201, payload: Buffer.from('{"by":"the device"}') }),
    deliver: (_deviceId: DeviceId, command: CloudCommand, signal: AbortSignal) => {
      const settled = Promise.withResolvers<CommandOutcome>();
      signal.addEventListener('abort', () => settled.reject(new Error('given up')));
      given.push({ command, settle: settled.resolve });
      return settled.promise;
    },
  };
  return {
    sessions: sessions as unknown as SessionDevices,
    given,
    take: (...now: readonly ('session' | 'methods' | 'commands')[]): void => {
      takes.clear();
      for (const one of now) takes.add(one);
      for (const listener of listeners) listener(LEAF);
    },
  };
}

const LEAF = 'leaf-1' as DeviceId;

describe('what comes over AMQP for a device of the local hub', () => {
  it('is handed out from its log-in, as far as it takes it, and waits at the hub while it is away', async () => {
    const { sessions, given, take } = sessionRig();
    await using down = await downRig([LEAF], sessions);
    const { hub } = down.rig.hub.hub;
    await down.send(LEAF, 'c1');
    take('session', 'methods');
    await down.listening(LEAF);
    expect(await down.invoke(LEAF, 'reboot', {})).toEqual({ status: 201, payload: { by: 'the device' } });
    // It takes no messages.
    expect(given).toHaveLength(0);
    take('session', 'commands');
    await waitFor(() => given.length === 1);
    expect(given[0]?.command).toMatchObject({ deliveryCount: 0, message: { ack: 'full' } });
    // Nor methods any more.
    await expect.poll(() => down.invoke(LEAF, 'reboot', {}).catch(iotHubErrorName)).toBe('DeviceNotOnline');
    // What it gives back is counted at the hub.
    given[0]?.settle('abandon');
    await waitFor(() => given.length === 2);
    expect(given[1]?.command.deliveryCount).toBe(1);
    // It takes no more, with one in its hands: that is at the hub again at once, not when its lock ends.
    take('session', 'methods');
    await expect.poll(() => hub.sessionOf(HUB, LEAF)?.interests).toEqual(new Set(['methods']));
    expect(await down.unsettled(LEAF)).toBe(1);
    take('session', 'methods', 'commands');
    await waitFor(() => given.length === 3);
    expect(given[2]?.command.deliveryCount).toBe(2);
    // Too late to say anything of it.
    given[1]?.settle('complete');
    given[2]?.settle('reject');
    await expect.poll(() => down.unsettled(LEAF)).toBe(0);
    take();
    await expect.poll(() => hub.sessionOf(HUB, LEAF), { timeout: 5000 }).toBeUndefined();
    take('session', 'methods');
    await down.listening(LEAF);
    expect(down.rig.proxy.acceptedTotal).toBe(1);
  });
});
