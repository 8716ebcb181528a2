import { beforeEach, describe, expect, it } from 'vitest';
import type { CommandMessage } from '../../../../src/core/hub/session.ts';
import type { DeliveredCommand } from '../../../../src/core/hub/session.ts';
import { HUB, hubRig, refusalOf, type HubRig } from '../../../support/hub.ts';
import { waitFor } from '../../../support/wait.ts';

const d1 = { deviceId: 'd1' };
let rig: HubRig;

const messageOf = (text: string): CommandMessage => ({ body: Buffer.from(text), properties: {}, ack: 'none' });
const offer = (text: string, signal = new AbortController().signal) =>
  rig.hub.offerCommand(HUB, 'd1', { message: messageOf(text) }, signal);
const given = (): DeliveredCommand[] => rig.sent.flatMap((one) => (one.kind === 'command' ? [one.command] : []));
const texts = (): string[] => given().map(({ message }) => Buffer.from(message.body).toString());
const connect = () => rig.connect(d1, { interests: ['commands'], credit: 10 });
const settle = (index: number, outcome: 'complete' | 'abandon' | 'reject') =>
  rig.hub.commands.settle(HUB, 'd1', given()[index]?.lockToken ?? '', outcome);

beforeEach(async () => {
  rig = await hubRig();
  await rig.hub.identities.putDevice(HUB, d1, undefined);
});

describe('messages that the cloud sends to a device of the local hub', () => {
  it('wait for its session, come in their order, and are settled by what it says', async () => {
    const [first, second] = [offer('a'), offer('b')];
    await connect();
    await waitFor(() => given().length === 2);
    expect(texts()).toEqual(['a', 'b']);
    await settle(0, 'complete');
    await settle(1, 'reject');
    expect(await Promise.all([first, second])).toEqual(['complete', 'reject']);
    // Nothing of them is kept, and they count nowhere.
    expect((await rig.hub.identities.device(HUB, 'd1')).cloudToDeviceMessageCount).toBe(0);
    expect(await refusalOf(settle(0, 'complete'))).toBe('DeviceMessageLockLost');
  });

  it('come again when they are given back, or their session ends, and are refused after ten times', async () => {
    const done = offer('a');
    const { sessionId } = await connect();
    await waitFor(() => given().length === 1);
    rig.hub.sessions.close(sessionId, 'lost');
    await connect();
    await waitFor(() => given().length === 2);
    expect(given()[1]?.deliveryCount).toBe(0);
    for (let count = 1; count < 10; count += 1) {
      await settle(count, 'abandon');
      await waitFor(() => given().length === count + 2);
      expect(given()[count + 1]?.deliveryCount).toBe(count);
    }
    await settle(10, 'abandon');
    expect(await done).toBe('reject');
  });

  it('go back to a cloud that takes them back, and say what it says of them', async () => {
    const expiresAtMs = rig.clock.wallMs() + 5000;
    const command = { message: messageOf('a'), expiresAtMs, deliveryCount: 3 };
    const done = rig.hub.offerCommand(HUB, 'd1', command, new AbortController().signal);
    await connect();
    await waitFor(() => given().length === 1);
    expect(given()[0]).toMatchObject({ expiresAtMs, deliveryCount: 3 });
    await settle(0, 'abandon');
    expect(await done).toBe('abandon');
    expect(given()).toHaveLength(1);
  });

  it('come again when nobody settles them in time', async () => {
    const done = offer('a');
    await connect();
    await waitFor(() => given().length === 1);
    rig.clock.advance(60_000);
    await waitFor(() => given().length === 2);
    expect(await refusalOf(settle(0, 'complete'))).toBe('DeviceMessageLockLost');
    await settle(1, 'complete');
    expect(await done).toBe('complete');
  });

  it('are given up with the link that brought them, but for one that the device has', async () => {
    const over = new AbortController();
    const [had, waits] = [offer('a', over.signal), offer('b', over.signal)];
    const session = await rig.connect(d1, { interests: ['commands'], credit: 1 });
    await waitFor(() => given().length === 1);
    over.abort();
    await expect(waits).rejects.toMatchObject({ code: 'GW_ABORTED' });
    await settle(0, 'complete');
    expect(await had).toBe('complete');
    const again = new AbortController();
    const lost = offer('c', again.signal);
    rig.hub.sessions.grantCommands(session.sessionId, 1);
    await waitFor(() => given().length === 2);
    again.abort();
    rig.hub.sessions.close(session.sessionId, 'lost');
    await expect(lost).rejects.toMatchObject({ code: 'GW_ABORTED' });
  });

  it('are not given again because the cloud did not hear how they were settled', async () => {
    const message = (id: string) => ({ message: { ...messageOf(id), messageId: id } });
    const gone = new AbortController();
    const offered = ['a', 'b', 'c'].map((id) => rig.hub.offerCommand(HUB, 'd1', message(id), gone.signal));
    offered[2]?.catch(() => {});
    await connect();
    await waitFor(() => given().length === 3);
    await settle(0, 'complete');
    await offered[0];
    gone.abort();
    await settle(1, 'reject');
    await settle(2, 'abandon').catch(() => {});
    const again = new AbortController().signal;
    expect(await rig.hub.offerCommand(HUB, 'd1', message('a'), again)).toBe('complete');
    expect(await rig.hub.offerCommand(HUB, 'd1', message('b'), again)).toBe('reject');
    const count = given().length;
    // What it gave back it gets again.
    void rig.hub.offerCommand(HUB, 'd1', message('c'), again).catch(() => {});
    await waitFor(() => given().length > count);
  });

  it('are not given again while the device has them, though their link is another one by now', async () => {
    const message = { message: { ...messageOf('a'), messageId: 'a' } };
    const gone = new AbortController();
    const first = rig.hub.offerCommand(HUB, 'd1', message, gone.signal);
    await connect();
    await waitFor(() => given().length === 1);
    gone.abort();
    const second = rig.hub.offerCommand(HUB, 'd1', message, new AbortController().signal);
    await settle(0, 'complete');
    expect(await second).toBe('complete');
    expect(given()).toHaveLength(1);
    await expect(first).rejects.toMatchObject({ code: 'GW_ABORTED' });
  });

  it('of the same id are another message once the cloud has heard of the first', async () => {
    const message = { message: { ...messageOf('a'), messageId: 'a' } };
    const link = new AbortController();
    const first = rig.hub.offerCommand(HUB, 'd1', message, link.signal);
    await connect();
    await waitFor(() => given().length === 1);
    await settle(0, 'complete');
    await first;
    rig.clock.advance(120_000);
    link.abort();
    void rig.hub.offerCommand(HUB, 'd1', message, new AbortController().signal).catch(() => {});
    await waitFor(() => given().length === 2);
  });

  it('are given to a device that asks over HTTPS, before those of the hub itself', async () => {
    await rig.hub.commands.send(HUB, d1, messageOf('own'));
    const done = offer('cloud');
    const first = await rig.hub.commands.receive(HUB, 'd1');
    const second = await rig.hub.commands.receive(HUB, 'd1');
    expect([first, second].map((one) => Buffer.from(one?.message.body ?? []).toString())).toEqual(['cloud', 'own']);
    await rig.hub.commands.settle(HUB, 'd1', first?.lockToken ?? '', 'complete');
    expect(await done).toBe('complete');
  });

  it('are not taken when fifty wait', async () => {
    for (let count = 0; count < 50; count += 1) void offer(`${count}`);
    expect(await refusalOf(offer('one more'))).toBe('DeviceMaximumQueueDepthExceeded');
  });
});
