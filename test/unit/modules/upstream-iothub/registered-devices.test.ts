import { describe, expect, it } from 'vitest';
import { RegisteredDevices } from '../../../../modules/upstream-iothub/registered-devices.ts';
import { ACCEPTED, type DeliveryResult } from '../../../../src/core/delivery.ts';
import { parseDeviceId, type DeviceId } from '../../../../src/core/device.ts';
import { GatewayError } from '../../../../src/core/errors.ts';
import type { SecretShelf } from '../../../../src/core/secret-shelf.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { stored } from '../../../support/upstream-rig.ts';
import { message } from '../../../support/builders.ts';
import { waitFor } from '../../../support/wait.ts';

const A = parseDeviceId('a');
const NEVER = new AbortController().signal;

interface Call {
  readonly deviceId: DeviceId;
  readonly answer: (primary?: string, secondary?: string) => void;
  readonly refuse: (error: Error) => void;
}

function rig(kept: Record<string, string> = {}) {
  const clock = new ManualClock();
  const calls: Call[] = [];
  const keys = new Map<string, string>();
  const sent: string[] = [];
  let react: (device: string) => DeliveryResult = () => ACCEPTED;
  const secrets: SecretShelf = {
    get: (name) => Promise.resolve(kept[name]),
    put: (name, secret) => {
      kept[name] = secret;
      return Promise.resolve();
    },
  };
  const registered = new RegisteredDevices({
    registry: {
      make: (deviceId) =>
        new Promise((resolve, refuse) => {
          calls.push({ deviceId, answer: (primary = '') => resolve([primary]), refuse });
        }),
      find: (deviceId) =>
        new Promise((resolve, refuse) => {
          const answer = (primary?: string, secondary?: string): void =>
            resolve(primary === undefined ? undefined : secondary === undefined ? [primary] : [primary, secondary]);
          calls.push({ deviceId, answer, refuse });
        }),
    },
    secrets,
    clock,
    onKey: (deviceId, key) => void keys.set(deviceId, key),
    hasIdentity: (deviceId) => deviceId === 'gateway-1',
  });
  const send = (...texts: string[]): Promise<readonly DeliveryResult[]> =>
    registered.send(
      (batch) => {
        for (const one of batch) sent.push(Buffer.from(one.message.body).toString());
        return Promise.resolve(batch.map((one) => react(one.message.deviceId)));
      },
      texts.map((text, seq) => stored(text, seq, message({ device: text.split(' ')[0] ?? '', text }))),
      NEVER,
    );
  return {
    clock,
    calls,
    keys,
    sent,
    kept,
    send,
    registered,
    reactWith: (next: typeof react) => (react = next),
  };
}

describe('devices that the registry makes', () => {
  it('have nothing sent before their key is there, in their order, and delay nobody else', async () => {
    const { calls, clock, keys, kept, send, sent } = rig();
    const first = send('a 1', 'gateway-1 1', 'a 2', 'b 1');
    await waitFor(() => calls.length === 2);
    const second = send('a 3', 'gateway-1 2');
    await waitFor(() => sent.length === 2);
    expect(sent).toEqual(['gateway-1 1', 'gateway-1 2']);
    expect(calls.map(({ deviceId }) => deviceId)).toEqual(['a', 'b']);
    calls[0]?.answer('key-a');
    expect(await second).toEqual([ACCEPTED, ACCEPTED]);
    const third = send('a 4');
    calls[1]?.answer('key-b');
    expect(await first).toEqual([ACCEPTED, ACCEPTED, ACCEPTED, ACCEPTED]);
    await third;
    clock.advance(1);
    await send('a 5', 'b 2');
    expect(sent.filter((text) => text.startsWith('a'))).toEqual(['a 1', 'a 2', 'a 3', 'a 4', 'a 5']);
    expect(calls).toHaveLength(2);
    expect([keys.get('a'), kept['b']]).toEqual(['key-a', 'key-b']);
  });

  it('are known again from what was kept, without a call', async () => {
    const { calls, keys, send } = rig({ a: 'old' });
    expect(await send('a 1')).toEqual([ACCEPTED]);
    expect([calls.length, keys.get('a')]).toEqual([0, 'old']);
  });

  it('wait without blame while the registry throttles, and it is left alone meanwhile', async () => {
    const { calls, clock, send, sent } = rig();
    const sending = send('a 1', 'b 1');
    await waitFor(() => calls.length === 2);
    const throttled = new GatewayError('GW_THROTTLED', 'slow down', { details: { retryAfterMs: 5000 } });
    for (const { refuse } of calls) refuse(throttled);
    const retry = { status: 'retry', kind: 'transient', reason: 'slow down', blameless: true, retryAfterMs: 5000 };
    expect(await sending).toEqual([retry, retry]);
    clock.advance(4000);
    expect(await send('c 1')).toEqual([{ ...retry, retryAfterMs: 1000 }]);
    expect([calls.length, sent]).toEqual([2, []]);
    clock.advance(1000);
    const again = send('c 2');
    await waitFor(() => calls.length === 3);
    calls[2]?.answer('key');
    expect(await again).toEqual([ACCEPTED]);
  });

  it('are asked for a few at a time', async () => {
    const { calls, send } = rig();
    const sending = send(...Array.from({ length: 10 }, (_, index) => `d${index} 1`));
    for (let answered = 0; answered < 10; answered += 1) {
      await waitFor(() => calls.length > answered);
      expect(calls.length - answered).toBeLessThanOrEqual(4);
      calls[answered]?.answer('key');
    }
    expect((await sending).every(({ status }) => status === 'accepted')).toBe(true);
  });

  it('have their key asked for again when the hub refuses it, now and then', async () => {
    const { calls, clock, keys, kept, reactWith, send } = rig({ a: 'old' });
    const refused = { status: 'retry', kind: 'unauthorized', reason: 'wrong key' } as const;
    reactWith((device) => (keys.get(device) === 'new' ? ACCEPTED : refused));
    expect(await send('a 1')).toEqual([refused]);
    clock.advance(1);
    expect(await send('a 1')).toEqual([refused]);
    await waitFor(() => calls.length === 1);
    calls[0]?.answer('new');
    expect(await send('a 1')).toEqual([ACCEPTED]);
    expect(kept['a']).toBe('new');
    clock.advance(1);
    reactWith(() => refused);
    await send('a 2');
    await send('a 2');
    expect(calls).toHaveLength(1);
    clock.advance(300_000);
    await send('a 2');
    await waitFor(() => calls.length === 2);
  });
});

describe('devices that say the registry has them', () => {
  it('are asked for once, kept with both keys, and asked for again now and then', async () => {
    const { calls, clock, keys, kept, registered, send } = rig();
    const both = [registered.find(A), registered.find(A)];
    await waitFor(() => calls.length === 1);
    calls[0]?.answer('one', 'two');
    expect(await Promise.all(both)).toEqual([
      ['one', 'two'],
      ['one', 'two'],
    ]);
    expect([keys.get('a'), kept['a'], calls.length]).toEqual(['one', 'one two', 1]);
    expect(await registered.recall(A)).toEqual(['one', 'two']);
    // Its messages need no call any more.
    expect(await send('a 1')).toEqual([ACCEPTED]);
    expect(await registered.find(A)).toEqual(['one', 'two']);
    expect(calls).toHaveLength(1);
    clock.advance(300_000);
    const again = registered.find(A);
    await waitFor(() => calls.length === 2);
    calls[1]?.answer('three');
    expect(await again).toEqual(['three']);
    expect(kept['a']).toBe('three');
  });

  it('are known again from what was kept, and doubted at once', async () => {
    const { calls, keys, registered } = rig({ a: 'one two' });
    expect(await registered.recall(A)).toEqual(['one', 'two']);
    expect([keys.get('a'), calls.length]).toEqual(['one', 0]);
    const asked = registered.find(A);
    await waitFor(() => calls.length === 1);
    calls[0]?.refuse(new GatewayError('GW_CONNECT', 'away'));
    await expect(asked).rejects.toThrow('away');
    expect(await registered.recall(A)).toEqual(['one', 'two']);
  });

  it('and are not there are left alone for a while', async () => {
    const { calls, clock, registered } = rig();
    const first = registered.find(A);
    await waitFor(() => calls.length === 1);
    calls[0]?.answer();
    expect([await first, await registered.find(A), calls.length]).toEqual([undefined, undefined, 1]);
    clock.advance(30_000);
    void registered.find(A);
    await waitFor(() => calls.length === 2);
  });
});
