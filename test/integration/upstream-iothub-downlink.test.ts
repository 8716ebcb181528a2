// Direct methods and cloud-to-device messages to the gateway's own device at a hub.

import { describe, expect, it } from 'vitest';
import type { CommandAnswer, CommandOptions, DeviceCommand } from '../../src/core/command.ts';
import type { UpstreamTransport } from '../../src/core/endpoint.ts';
import { attachDownlink } from '../../src/upstream/downlink.ts';
import { HUB } from '../support/hub.ts';
import { clockWithRenewals, HUB_DEVICE, iotHubRig, type IotHubRig } from '../support/iothub-upstream.ts';
import { GATEWAY_ID, recordingTelemetry, type RecordingTelemetry } from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.143.2';
const NEVER = new AbortController().signal;

interface Asked {
  readonly command: DeviceCommand;
  readonly options: CommandOptions;
}

interface DownRig extends AsyncDisposable {
  readonly rig: IotHubRig;
  readonly transport: UpstreamTransport;
  /** Has the token renewed. */
  renew(): void;
  /** Tokens that were made. */
  renewals(): number;
  readonly telemetry: RecordingTelemetry;
  readonly asked: Asked[];
  readonly away: Set<string>;
  /** Of which it was asked whether they are away. */
  readonly lookedFor: Set<string>;
  /** What the dispatcher answers; a promise holds it back. */
  answer: (command: DeviceCommand) => CommandAnswer | Promise<CommandAnswer>;
  /** Resolves with status and payload. */
  invoke(name: string, payload: unknown): Promise<{ readonly status: number; readonly payload: unknown }>;
  send(body: unknown, properties?: Readonly<Record<string, string>>, messageId?: string): Promise<void>;
  /** Cloud-to-device messages that are not settled. */
  unsettled(): Promise<number>;
}

async function downRig(): Promise<DownRig> {
  const rig = await iotHubRig(ADDRESS);
  const { hub } = rig.hub.hub;
  const { clock, renewals } = clockWithRenewals(rig.clock);
  const transport = rig.transport({}, clock);
  const telemetry = recordingTelemetry();
  const asked: Asked[] = [];
  const away = new Set<string>();
  const lookedFor = new Set<string>();
  const dispatcher = {
    run: async (command: DeviceCommand, options: CommandOptions) => {
      asked.push({ command, options });
      return down.answer(command);
    },
    isAway: (deviceId: string) => lookedFor.add(deviceId) && away.has(deviceId),
  };
  attachDownlink(transport, { name: '$upstream', gatewayId: GATEWAY_ID, dispatcher, telemetry });
  const down: DownRig = {
    rig,
    transport,
    renew: () => renewals.at(-1)?.(),
    renewals: () => renewals.length,
    telemetry,
    asked,
    away,
    lookedFor,
    answer: () => ({ status: 200, values: { relay: true } }),
    async invoke(name, payload) {
      const bytes =
        payload === undefined
          ? Buffer.alloc(0)
          : Buffer.from(typeof payload === 'string' ? payload : JSON.stringify(payload));
      const call = { name, payload: bytes, responseTimeoutMs: 30_000, connectTimeoutMs: 0 };
      const answer = await hub.methods.invoke(HUB, { deviceId: HUB_DEVICE }, call);
      return { status: answer.status, payload: JSON.parse(Buffer.from(answer.payload).toString()) as unknown };
    },
    send: (body, properties = { device_id: 'meter-1' }, messageId) =>
      hub.commands.send(
        HUB,
        { deviceId: HUB_DEVICE },
        {
          body: Buffer.from(JSON.stringify(body)),
          properties,
          ack: 'none',
          ...(messageId !== undefined && { messageId }),
        },
      ),
    unsettled: async () => (await hub.identities.device(HUB, HUB_DEVICE)).cloudToDeviceMessageCount,
    [Symbol.asyncDispose]: async () => {
      await transport.close();
      await rig[Symbol.asyncDispose]();
    },
  };
  await transport.open(NEVER);
  // The hub tells nobody that it has a subscription, but by what it delivers.
  await waitFor(() => isAnswering(down), { what: 'the subscriptions' });
  return down;
}

function isAnswering(down: DownRig): Promise<boolean> {
  return down.invoke('ping', undefined).then(
    ({ status }) => status === 200,
    () => false,
  );
}

describe('direct methods', () => {
  it('write points and invoke actions of leaf devices, and are answered by what these say', async () => {
    await using down = await downRig();
    expect(await down.invoke('ping', undefined)).toEqual({ status: 200, payload: { gateway: 'gateway-1' } });
    const exact = '{"device_id":"meter-1","values":{"relay":true,"count":18446744073709551615}}';
    expect(await down.invoke('writePoint', exact)).toEqual({ status: 200, payload: { values: { relay: true } } });
    down.answer = () => ({ status: 200, payload: { done: 1 } });
    const action = { device_id: 'meter-1', action: 'reset', payload: { in: [5] } };
    expect(await down.invoke('invokeAction', action)).toEqual({ status: 200, payload: { payload: { done: 1 } } });
    expect(down.asked.map(({ command }) => command)).toEqual([
      { kind: 'write', deviceId: 'meter-1', values: { relay: true, count: 18446744073709551615n } },
      { kind: 'action', deviceId: 'meter-1', action: 'reset', payload: { in: [5] } },
    ]);
    expect(down.asked[0]?.options).toMatchObject({ actor: 'upstream:$upstream' });
    down.answer = () => ({ status: 502, code: 'exception_2', reason: 'Illegal address.' });
    expect(await down.invoke('writePoint', exact)).toEqual({
      status: 502,
      payload: { code: 'exception_2', reason: 'Illegal address.' },
    });
  });

  it.each([
    ['restart', {}, 404, /no method "restart"; it has ping, writePoint, invokeAction/],
    ['writePoint', undefined, 400, /not JSON|no object/],
    ['writePoint', '{"device_id":', 400, /not JSON/],
    ['writePoint', [1], 400, /no object/],
    ['writePoint', { values: { relay: true } }, 400, /no "device_id"/],
    ['writePoint', { device_id: 'meter-1' }, 400, /no "values"/],
    ['writePoint', { device_id: 'meter-1', values: { relay: [1] } }, 400, /names points and their values/],
    ['invokeAction', { device_id: 'meter-1' }, 400, /no "action"/],
  ])('refuse %s with %j', async (name, payload, status, reason) => {
    await using down = await downRig();
    const answer = await down.invoke(name, payload);
    expect(answer).toMatchObject({ status, payload: { reason: expect.stringMatching(reason) as unknown } });
    expect(down.asked).toEqual([]);
  });
});

it('a method that is under way is answered before the token is renewed', async () => {
  await using down = await downRig();
  const done = Promise.withResolvers<CommandAnswer>();
  down.answer = () => done.promise;
  const call = down.invoke('writePoint', { device_id: 'meter-1', values: { relay: true } });
  await waitFor(() => down.asked.length === 1);
  down.renew();
  // Long enough for a goodbye that does not wait.
  expect(await isAnswering(down)).toBe(true);
  done.resolve({ status: 200, values: { relay: true } });
  expect(await call).toEqual({ status: 200, payload: { values: { relay: true } } });
  await waitFor(() => down.renewals() === 2);
  await waitFor(() => isAnswering(down));
});

describe('cloud-to-device messages', () => {
  it('are acknowledged when they are carried out, and not before', async () => {
    await using down = await downRig();
    const done = Promise.withResolvers<CommandAnswer>();
    down.answer = () => done.promise;
    await down.send({ values: { relay: true } }, { device_id: 'meter-1' }, 'm 1');
    await down.send({ depth: 2 }, { device_id: 'pump', 'fieldpost-command': 'flush' });
    await waitFor(() => down.asked.length === 2);
    expect(down.asked).toMatchObject([
      { command: { kind: 'write', deviceId: 'meter-1', values: { relay: true } }, options: { id: 'c2d.m 1' } },
      { command: { kind: 'action', deviceId: 'pump', action: 'flush', payload: { depth: 2 } } },
    ]);
    expect(await down.unsettled()).toBe(2);
    done.resolve({ status: 200 });
    await expect.poll(() => down.unsettled()).toBe(0);
  });

  it.each(['before', 'after'])(
    'are done once when they end %s they come again, with an id and without',
    async (when) => {
      await using down = await downRig();
      const done = Promise.withResolvers<CommandAnswer>();
      down.answer = () => done.promise;
      await down.send({ relay: true });
      await down.send({ relay: true }, { device_id: 'meter-1' }, 'm1');
      await waitFor(() => down.asked.length === 2);
      down.rig.proxy.cut();
      await down.transport.closed();
      if (when === 'before') done.resolve({ status: 200 });
      await down.transport.open(NEVER);
      // Both have come again when what was subscribed behind them works.
      await waitFor(() => isAnswering(down));
      done.resolve({ status: 200 });
      await expect.poll(() => down.unsettled()).toBe(0);
      expect(down.asked).toHaveLength(2);
      // The same again, sent on purpose, is done again.
      await down.send({ relay: true });
      await waitFor(() => down.asked.length === 3);
      await expect.poll(() => down.unsettled()).toBe(0);
    },
  );

  it('wait for a device that is away, and survive the connection', async () => {
    await using down = await downRig();
    down.away.add('meter-1');
    await down.send({ relay: true });
    await down.send({ relay: false }, { device_id: 'meter-2' });
    await waitFor(() => down.asked.length === 1);
    expect(await down.unsettled()).toBe(2);
    down.rig.proxy.cut();
    await down.transport.closed();
    down.away.clear();
    await down.transport.open(NEVER);
    await expect.poll(() => down.unsettled()).toBe(0);
    expect(down.asked.map(({ command }) => command.deviceId)).toEqual(['meter-2', 'meter-1']);
  });

  it('are given up when they expire meanwhile', async () => {
    await using down = await downRig();
    down.away.add('meter-1');
    const { clock, hub } = down.rig.hub.hub;
    const expiring = {
      body: Buffer.from('{"relay":true}'),
      properties: { device_id: 'meter-1' },
      ack: 'none',
    } as const;
    await hub.commands.send(HUB, { deviceId: HUB_DEVICE }, { ...expiring, expiresAtMs: clock.wallMs() + 20_000 });
    await waitFor(() => down.lookedFor.has('meter-1'));
    clock.advance(20_001);
    await waitFor(() => down.telemetry.of('command_ignored').length === 1);
    expect(down.telemetry.of('command_ignored')).toMatchObject([{ fields: { reason: 'expired', device: 'meter-1' } }]);
    expect(down.asked).toEqual([]);
  });

  it('that are no commands are taken from the queue and told', async () => {
    await using down = await downRig();
    await down.send({ relay: [1] });
    await down.send('text');
    await expect.poll(() => down.unsettled()).toBe(0);
    expect(down.telemetry.of('command_ignored').map(({ fields }) => fields['reason'])).toEqual([
      'not_a_command',
      'not_a_command',
    ]);
    expect(down.asked).toEqual([]);
  });
});

it('takes nothing down where commands are off', async () => {
  await using rig = await iotHubRig(ADDRESS);
  const transport = rig.transport({ commands: false });
  expect(transport.capabilities).toMatchObject({ commands: false, methods: false, twins: false });
  expect('receiveCommands' in transport).toBe(false);
});
