import { beforeEach, describe, expect, it } from 'vitest';
import type { CommandMessage, DeliveredCommand } from '../../../../src/core/hub/session.ts';
import { HUB, hubRig, refusalOf, type HubRig } from '../../../support/hub.ts';
import { waitFor } from '../../../support/wait.ts';

let rig: HubRig;
const d1 = { deviceId: 'd1' };

beforeEach(async () => {
  rig = await hubRig();
  await rig.hub.identities.putDevice(HUB, d1, undefined);
});

function message(text: string, more: Partial<CommandMessage> = {}): CommandMessage {
  return { body: Buffer.from(text), properties: { kind: 'test' }, ack: 'none', messageId: text, ...more };
}

const send = (text: string, more: Partial<CommandMessage> & { readonly expiresAtMs?: number } = {}) =>
  rig.hub.commands.send(HUB, d1, { ...message(text), ...more });

function delivered(): DeliveredCommand[] {
  return rig.sent.flatMap((item) => (item.kind === 'command' ? [item.command] : []));
}

const texts = () => delivered().map(({ message: { body } }) => Buffer.from(body).toString());

/** Whatever was begun for the device has ended, and the head was told. */
async function idle(): Promise<void> {
  await rig.hub.twins.report(HUB, d1, Buffer.from('{}'));
  await new Promise((resolve) => setImmediate(resolve));
}

/** The next batch of feedback, once it is due. */
async function feedback() {
  const received = rig.hub.commands.receiveFeedback(HUB, new AbortController().signal);
  await new Promise((resolve) => setImmediate(resolve));
  rig.clock.advance(15_000);
  return received;
}

describe('commands', () => {
  it('waits for the device, and gives it what it has credit for, in order', async () => {
    for (const text of ['a', 'b', 'c']) await send(text);
    expect((await rig.hub.identities.device(HUB, 'd1')).cloudToDeviceMessageCount).toBe(3);
    const { sessionId } = await rig.connect(d1, { interests: ['commands'], credit: 2 });
    await waitFor(() => texts().length === 2);
    expect(delivered()[0]).toMatchObject({
      sequenceNumber: 1,
      deliveryCount: 0,
      enqueuedTimeMs: rig.clock.wallMs(),
      expiresAtMs: rig.clock.wallMs() + 3_600_000,
      message: { messageId: 'a', properties: { kind: 'test' }, ack: 'none' },
    });
    await idle();
    expect(texts()).toEqual(['a', 'b']);
    rig.hub.sessions.grantCommands(sessionId, 1);
    await waitFor(() => texts().length === 3);
    await send('d');
    await idle();
    expect(texts()).toEqual(['a', 'b', 'c']);
    for (const { lockToken } of delivered()) await rig.hub.commands.settle(HUB, 'd1', lockToken, 'complete');
    expect((await rig.hub.identities.device(HUB, 'd1')).cloudToDeviceMessageCount).toBe(1);
  });

  it('gives nothing to a session without the interest', async () => {
    await send('a');
    await rig.connect(d1, { interests: ['methods'], credit: 5 });
    await idle();
    expect(texts()).toEqual([]);
  });

  it('holds 50, and room again when one ends', async () => {
    for (let count = 0; count < 50; count += 1) await send(`m${count}`);
    expect(await refusalOf(send('over'))).toBe('DeviceMaximumQueueDepthExceeded');
    const first = await rig.hub.commands.receive(HUB, 'd1');
    expect(await refusalOf(send('over'))).toBe('DeviceMaximumQueueDepthExceeded');
    await rig.hub.commands.settle(HUB, 'd1', first?.lockToken ?? '', 'complete');
    await send('now');
    expect(await rig.hub.commands.purge(HUB, 'd1')).toBe(50);
    expect(await rig.hub.commands.receive(HUB, 'd1')).toBeUndefined();
  });

  it('checks size, expiry and receiver', async () => {
    expect(await refusalOf(send('x', { body: Buffer.alloc(65_537) }))).toBe('MessageTooLarge');
    expect(await refusalOf(send('x', { expiresAtMs: rig.clock.wallMs() - 1 }))).toBe('InvalidMessageExpiryTime');
    expect(await refusalOf(rig.hub.commands.send(HUB, { deviceId: 'no' }, message('x')))).toBe('DeviceNotFound');
    const module = { ...d1, moduleId: 'm' };
    expect(await refusalOf(rig.hub.commands.send(HUB, module, message('x')))).toBe('InvalidOperation');
  });

  it('gives a lock back after a minute, and at the end of a session, without counting', async () => {
    await send('a');
    const { sessionId } = await rig.connect(d1, { interests: ['commands'], credit: 1 });
    await waitFor(() => texts().length === 1);
    const token = delivered()[0]?.lockToken ?? '';
    rig.clock.advance(60_000);
    await idle();
    expect(await refusalOf(rig.hub.commands.settle(HUB, 'd1', token, 'complete'))).toBe('DeviceMessageLockLost');
    rig.hub.sessions.grantCommands(sessionId, 1);
    await waitFor(() => texts().length === 2);
    rig.hub.sessions.close(sessionId, 'lost');
    await rig.connect(d1, { interests: ['commands'], credit: 1 });
    await waitFor(() => texts().length === 3);
    expect(delivered().map(({ deliveryCount }) => deliveryCount)).toEqual([0, 0, 0]);
  });

  it('counts what is abandoned, over restarts, and gives up at the tenth', async () => {
    await send('a', { ack: 'full' });
    for (let count = 0; count < 10; count += 1) {
      if (count === 5) rig = await hubRig({ state: rig.state, clock: rig.clock });
      const command = await rig.hub.commands.receive(HUB, 'd1');
      expect(command?.deliveryCount).toBe(count);
      await rig.hub.commands.settle(HUB, 'd1', command?.lockToken ?? '', 'abandon');
    }
    expect(await rig.hub.commands.receive(HUB, 'd1')).toBeUndefined();
    expect((await feedback())?.records[0]).toMatchObject({ statusCode: 'DeliveryCountExceeded' });
  });

  it('expires in time, also of a device that never comes', async () => {
    await send('a', { ack: 'negative', expiresAtMs: rig.clock.wallMs() + 5000 });
    await send('b');
    await waitFor(async () => {
      rig.clock.advance(1000);
      return (await rig.hub.identities.device(HUB, 'd1')).cloudToDeviceMessageCount === 1;
    });
    const batch = await feedback();
    expect(batch?.records).toMatchObject([
      { originalMessageId: 'a', statusCode: 'Expired', description: 'Expired', deviceId: 'd1' },
    ]);
    const command = await rig.hub.commands.receive(HUB, 'd1');
    expect(Buffer.from(command?.message.body ?? []).toString()).toBe('b');
  });

  it('tells who asked how it ended, and nobody else', async () => {
    for (const ack of ['none', 'positive', 'negative', 'full'] as const) {
      await send(`${ack}-done`, { ack });
      await send(`${ack}-refused`, { ack });
    }
    for (;;) {
      const command = await rig.hub.commands.receive(HUB, 'd1');
      if (command === undefined) break;
      const outcome = command.message.messageId?.endsWith('done') === true ? 'complete' : 'reject';
      await rig.hub.commands.settle(HUB, 'd1', command.lockToken, outcome);
    }
    const batch = await feedback();
    expect(batch?.records.map(({ originalMessageId, statusCode }) => `${originalMessageId} ${statusCode}`)).toEqual([
      'positive-done Success',
      'negative-refused Rejected',
      'full-done Success',
      'full-refused Rejected',
    ]);
    const none = rig.hub.commands.receiveFeedback(HUB, AbortSignal.timeout(50));
    expect(await none).toBeUndefined();
    await rig.hub.commands.settleFeedback(HUB, batch?.lockToken ?? '', 'complete');
    const again = rig.hub.commands.settleFeedback(HUB, batch?.lockToken ?? '', 'complete');
    expect(await refusalOf(again)).toBe('DeviceMessageLockLost');
  });

  it('gives a batch of feedback at 64 records, keeps it over restarts, and again when it is not settled', async () => {
    for (let count = 0; count < 64; count += 1) {
      await send(`m${count}`, { ack: 'full' });
      const command = await rig.hub.commands.receive(HUB, 'd1');
      await rig.hub.commands.settle(HUB, 'd1', command?.lockToken ?? '', 'complete');
    }
    rig = await hubRig({ state: rig.state, clock: rig.clock });
    const signal = AbortSignal.timeout(5000);
    const batch = await rig.hub.commands.receiveFeedback(HUB, signal);
    expect(batch?.records).toHaveLength(64);
    await rig.hub.commands.settleFeedback(HUB, batch?.lockToken ?? '', 'abandon');
    const second = await rig.hub.commands.receiveFeedback(HUB, signal);
    expect(second).toMatchObject({ deliveryCount: 1, records: batch?.records });
    rig.clock.advance(60_000);
    const third = await rig.hub.commands.receiveFeedback(HUB, signal);
    expect(third?.deliveryCount).toBe(2);
    await rig.hub.commands.settleFeedback(HUB, third?.lockToken ?? '', 'complete');
    expect(rig.hub.stats().feedbackRecords).toBe(0);
  });

  it('forgets the commands of a deleted device', async () => {
    await send('a', { ack: 'full' });
    await rig.hub.identities.deleteDevice(HUB, 'd1', '*');
    await rig.hub.identities.putDevice(HUB, d1, undefined);
    expect(await rig.hub.commands.receive(HUB, 'd1')).toBeUndefined();
    const keys: string[] = [];
    for await (const [key] of rig.state.space(`hub/${HUB}`).entries()) keys.push(key);
    expect(keys.filter((key) => /^[cxf]\//.test(key))).toEqual([]);
  });

  it('holds in memory only the queues that somebody needs there', async () => {
    await send('a');
    await idle();
    expect(rig.hub.stats().commandQueues).toBe(0);
    const { sessionId } = await rig.connect(d1, { interests: ['commands'], credit: 1 });
    await waitFor(() => texts().length === 1);
    expect(rig.hub.stats().commandQueues).toBe(1);
    rig.hub.sessions.close(sessionId, 'closed');
    await idle();
    expect(rig.hub.stats().commandQueues).toBe(0);
  });
});
