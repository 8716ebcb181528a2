// Connection, pump and lanes against a scripted peer; the outbox is the real one, in memory.

import { describe, expect, it } from 'vitest';
import type { Clock } from '../../../../src/core/clock.ts';
import { ACCEPTED } from '../../../../src/core/delivery.ts';
import { parseDeviceId } from '../../../../src/core/device.ts';
import { GatewayError } from '../../../../src/core/errors.ts';
import { LIMITS } from '../../../../src/core/limits.ts';
import { message } from '../../../support/builders.ts';
import { PassingClock } from '../../../support/passing-clock.ts';
import { ScriptedEndpoint, textOf } from '../../../support/scripted-endpoint.ts';
import { hastyClock, heldClock, startRig } from '../../../support/upstream-rig.ts';
import { waitFor } from '../../../support/wait.ts';

const refused = (): GatewayError =>
  new GatewayError('GW_CONNECT', 'nothing there', { cause: { code: 'ECONNREFUSED' } });

describe('sending', () => {
  it('keeps to the window and to the order', async () => {
    const endpoint = new ScriptedEndpoint();
    await using rig = startRig(endpoint);
    const texts = await rig.append(500);
    await rig.drained();
    expect(endpoint.accepted).toEqual(texts);
    expect(endpoint.mostUnanswered).toBeLessThanOrEqual(endpoint.capabilities.window);
  });

  it('has several batches under way', async () => {
    const endpoint = new ScriptedEndpoint();
    endpoint.react = () => 'hold';
    await using rig = startRig(endpoint);
    await rig.append(100);
    await waitFor(() => endpoint.held >= 7);
    expect(endpoint.batches.length).toBeGreaterThan(1);
    expect(rig.runner.status().inFlight).toBe(endpoint.held);
    endpoint.react = () => ({ status: 'accepted' });
    endpoint.release();
    await rig.drained();
  });

  it('settles rejected messages into the quarantine and goes on', async () => {
    const endpoint = new ScriptedEndpoint();
    endpoint.react = (_stored, text) =>
      text === 'm3' ? { status: 'rejected', reason: 'too odd' } : { status: 'accepted' };
    await using rig = startRig(endpoint);
    const texts = await rig.append(10);
    await rig.drained();
    expect(endpoint.accepted.filter((text) => text.startsWith('m'))).toEqual(texts.filter((text) => text !== 'm3'));
    const [quarantined] = await rig.outbox.quarantined({ limit: 10 });
    expect(quarantined).toMatchObject({ reason: 'too odd', queue: '$upstream' });
    expect(rig.telemetry.of('message_rejected')).toHaveLength(1);
  });

  it('says so when everything goes to the quarantine, until something passes', async () => {
    const endpoint = new ScriptedEndpoint();
    endpoint.react = (_stored, text) =>
      text.startsWith('big') ? { status: 'rejected', reason: 'too large' } : { status: 'accepted' };
    await using rig = startRig(endpoint);
    await rig.append(9, 'big');
    await rig.drained();
    expect(rig.runner.health()).toEqual({ status: 'running' });
    await rig.append(1, 'big');
    await rig.drained();
    expect(rig.runner.health()).toEqual({
      status: 'degraded',
      reason: 'The last 10 messages were refused and are in the quarantine: too large',
    });
    await rig.append(1, 'small');
    await rig.drained();
    expect(rig.runner.health()).toEqual({ status: 'running' });
  });

  it('after a retry takes nothing new until all is answered, then goes on from the lowest', async () => {
    const endpoint = new ScriptedEndpoint();
    let refusals = 3;
    const seen: string[] = [];
    endpoint.react = (_stored, text) => {
      seen.push(text);
      if (text !== 'm2' || refusals === 0) return { status: 'accepted' };
      refusals -= 1;
      return { status: 'retry', kind: 'throttled', reason: 'slow down' };
    };
    await using rig = startRig(endpoint, 'strict', hastyClock);
    const texts = await rig.append(60);
    await rig.drained();
    expect([...endpoint.accepted].sort()).toEqual([...texts].sort());
    // No message behind the window of the refused one passed before it was accepted.
    const passedBefore = endpoint.accepted.slice(0, endpoint.accepted.indexOf('m2'));
    expect(Math.max(...passedBefore.map((text) => Number(text.slice(1))))).toBeLessThan(2 + 8 * 2);
    expect(rig.telemetry.of('delivery_retried')).toHaveLength(3);
    expect(seen.filter((text) => text === 'm2')).toHaveLength(4);
  });

  it.each(['unauthorized', 'transient'] as const)(
    'quarantines what is refused (%s) while others pass',
    async (kind) => {
      const endpoint = new ScriptedEndpoint();
      endpoint.react = (_stored, text) =>
        text === 'm2' ? { status: 'retry', kind, reason: 'not this topic' } : { status: 'accepted' };
      await using rig = startRig(endpoint, 'live_first', hastyClock);
      const feeding = setInterval(() => void rig.append(2, 'n'), 5);
      await rig.append(30);
      await waitFor(async () => (await rig.outbox.quarantined({ limit: 1 })).length === 1);
      clearInterval(feeding);
      expect(await rig.outbox.quarantined({ limit: 5 })).toMatchObject([{ reason: 'not this topic' }]);
    },
  );

  it('keeps everything when nothing is authorized', async () => {
    const endpoint = new ScriptedEndpoint();
    endpoint.react = () => ({ status: 'retry', kind: 'unauthorized', reason: 'no' });
    await using rig = startRig(endpoint, 'live_first', hastyClock);
    await rig.append(20);
    await waitFor(() => rig.telemetry.of('delivery_retried').length > 6);
    expect(await rig.outbox.quarantined({ limit: 5 })).toEqual([]);
    expect(rig.outbox.queue('$upstream').stats().messages).toBe(20);
  });

  it.each(['live_first', 'strict'] as const)('keeps the neighbours of a refused device flowing (%s)', async (order) => {
    const endpoint = new ScriptedEndpoint();
    let allowed = false;
    endpoint.react = (stored) =>
      stored.message.deviceId === 'bad' && !allowed
        ? { status: 'retry', kind: 'unauthorized', reason: 'not this topic' }
        : { status: 'accepted' };
    // No pause of the whole queue would end.
    const { clock, go } = heldClock();
    await using rig = startRig(endpoint, order, clock);
    const bad: string[] = [];
    for (let round = 0; round < 40; round += 1) {
      bad.push(...(await rig.append(1, `b${round}-`, { deviceId: parseDeviceId('bad') })));
      const good = await rig.append(5, `g${round}-`, { deviceId: parseDeviceId('good') });
      await waitFor(() => endpoint.accepted.includes(good.at(-1) ?? ''), { everyMs: 2 });
    }
    expect(rig.runner.health()).toEqual({
      status: 'degraded',
      reason: 'Messages of bad are held back: not this topic',
    });
    // One trial at a time, not one for each message.
    expect(endpoint.batches.flat().filter((text) => text.startsWith('b')).length).toBeLessThan(12);
    allowed = true;
    go();
    await rig.drained();
    expect(endpoint.accepted.filter((text) => text.startsWith('b'))).toEqual(bad);
    expect(rig.runner.health()).toEqual({ status: 'running' });
  });

  it('never puts aside what is not to blame, however often it comes back while others pass', async () => {
    const endpoint = new ScriptedEndpoint();
    let isThere = false;
    let trials = 0;
    endpoint.react = ({ message }) => {
      if (message.deviceId !== 'away' || isThere) return { status: 'accepted' };
      trials += 1;
      return { status: 'retry', kind: 'transient', reason: 'no such address', blameless: true };
    };
    await using rig = startRig(endpoint, 'live_first', hastyClock);
    const away = await rig.append(3, 'a', { deviceId: parseDeviceId('away') });
    for (let round = 0; trials < 15; round += 1) {
      const [good = ''] = await rig.append(1, `g${round}-`, { deviceId: parseDeviceId('good') });
      await waitFor(() => endpoint.accepted.includes(good), { everyMs: 2 });
    }
    expect(rig.telemetry.of('message_rejected')).toEqual([]);
    isThere = true;
    await rig.drained();
    expect(endpoint.accepted.filter((text) => text.startsWith('a'))).toEqual(away);
  });

  it('tells what does not work although messages pass', async () => {
    const endpoint = Object.assign(new ScriptedEndpoint(), { impaired: 'No commands come.' });
    await using rig = startRig(endpoint);
    await rig.append(3);
    await rig.drained();
    expect(rig.runner.health()).toEqual({ status: 'degraded', reason: 'No commands come.' });
  });

  it('shows for what a connected endpoint waits', async () => {
    const endpoint = Object.assign(new ScriptedEndpoint(), { waiting: undefined as string | undefined });
    await using rig = startRig(endpoint);
    await waitFor(() => rig.runner.status().state === 'connected');
    expect(rig.runner.health()).toEqual({ status: 'running' });
    endpoint.waiting = 'no credit';
    expect(rig.runner.health()).toEqual({ status: 'degraded', reason: 'no credit' });
    expect(rig.runner.status().pausedReason).toBe('no credit');
  });

  it('bounds what is held back; the oldest goes to the quarantine', async () => {
    const endpoint = new ScriptedEndpoint();
    endpoint.capabilities = { negativeAcknowledgement: true, window: 256, batchMessages: 64 };
    endpoint.react = (stored) =>
      stored.message.deviceId === 'bad'
        ? { status: 'retry', kind: 'unauthorized', reason: 'not this topic' }
        : { status: 'accepted' };
    await using rig = startRig(endpoint, 'strict', hastyClock);
    const count = LIMITS.endpoint_held_messages + 400;
    for (let sent = 0; sent < count; sent += 100) {
      await rig.append(100, `b${sent}-`, { deviceId: parseDeviceId('bad') });
      await rig.append(1, `g${sent}-`, { deviceId: parseDeviceId('good') });
    }
    await waitFor(() => endpoint.accepted.filter((text) => text.startsWith('g')).length === Math.ceil(count / 100), {
      timeoutMs: 20_000,
    });
    const [oldest] = await rig.outbox.quarantined({ limit: 1 });
    expect(oldest).toMatchObject({ reason: 'not this topic', stored: { message: { deviceId: 'bad' } } });
    expect(rig.outbox.queue('$upstream').stats().inFlight).toBeLessThanOrEqual(LIMITS.endpoint_held_messages + 256);
  });

  it.each(['live_first', 'strict'] as const)(
    'finds neighbours behind more of a refused device than may be held (%s)',
    async (order) => {
      const endpoint = new ScriptedEndpoint();
      endpoint.capabilities = { negativeAcknowledgement: true, window: 256, batchMessages: 64 };
      let allowed = false;
      endpoint.react = (stored) =>
        stored.message.deviceId === 'bad' && !allowed
          ? { status: 'retry', kind: 'unauthorized', reason: 'not this topic' }
          : { status: 'accepted' };
      await using rig = startRig(endpoint, order);
      const bad = await rig.append(LIMITS.endpoint_held_messages * 3, 'b', { deviceId: parseDeviceId('bad') });
      await waitFor(() => rig.telemetry.of('delivery_retried').length > 1);
      // Beyond every message that may be leased, too.
      bad.push(...(await rig.append(LIMITS.queue_in_flight_messages, 'c', { deviceId: parseDeviceId('bad') })));
      const good = await rig.append(500, 'g', { deviceId: parseDeviceId('good') });
      const texts = (prefix: string): string[] => endpoint.accepted.filter((text) => text.startsWith(prefix));
      await waitFor(() => texts('g').length === good.length, { what: 'the neighbour to be delivered' });
      expect(texts('g')).toEqual(good);
      allowed = true;
      await rig.drained();
      const quarantined = await rig.outbox.quarantined({ limit: LIMITS.quarantine_messages });
      const arrived = [...quarantined.map(({ stored }) => textOf(stored)), ...texts('b'), ...texts('c')];
      expect(arrived).toEqual(bad);
    },
  );

  it('corrects times once the clock of their boot is known', async () => {
    const endpoint = new ScriptedEndpoint();
    await using rig = startRig(endpoint);
    endpoint.react = () => 'hold';
    await rig.outbox.recordClockOffset('boot-1', 86_400_000);
    const time = { bootId: 'boot-1', monotonicMs: 5, wallMs: Date.UTC(1970, 0, 1), clock: 'restored' as const };
    await rig.outbox.append([
      {
        message: message({
          text: '{"time":"1970-01-01T00:00:00.000Z","values":{}}',
          time,
          stamps: { timeAt: 9, identityAt: 34 },
        }),
        queues: [],
      },
      { message: message({ text: 'theirs', time }), queues: [] },
    ]);
    await waitFor(() => endpoint.held === 2);
    endpoint.release();
    await rig.drained();
    expect(endpoint.accepted[0]).toMatch(/^\{"time":"1970-01-02T00:00:00\.005Z","epoch":"/);
    expect(endpoint.acceptedMessages[1]?.message.systemProperties.creationTimeUtc).toBe('1970-01-02T00:00:00.005Z');
  });
});

describe('the connection', () => {
  it('probes while the peer is away and delivers when it is back', async () => {
    const endpoint = new ScriptedEndpoint();
    endpoint.unreachable = refused();
    await using rig = startRig(endpoint, 'live_first', hastyClock);
    await rig.append(5);
    await waitFor(() => endpoint.probes > 10);
    expect(endpoint.opens).toBe(0);
    expect(rig.runner.status()).toMatchObject({ state: 'probing', kind: 'transient' });
    expect(rig.runner.health()).toEqual({ status: 'degraded', reason: 'nothing there' });
    endpoint.unreachable = undefined;
    await rig.drained();
    expect(rig.runner.health()).toEqual({ status: 'running' });
  });

  it('is not held up by a probe whose answer never comes', async () => {
    const endpoint = new ScriptedEndpoint();
    let probes = 0;
    endpoint.probe = (signal?: AbortSignal) => {
      probes += 1;
      if (probes === 3) return Promise.resolve();
      return new Promise((_resolve, reject) => {
        signal?.addEventListener('abort', () => reject(new GatewayError('GW_ABORTED', 'stopped')));
      });
    };
    await using rig = startRig(endpoint, 'live_first', hastyClock);
    await rig.append(5);
    await rig.drained();
    expect(probes).toBe(3);
  });

  it('is made anew when the link is back, also where what was unanswered was given up meanwhile', async () => {
    const endpoint = Object.assign(new ScriptedEndpoint(), {
      isSilent: true,
      cut: (reason: string) => {
        endpoint.isSilent = false;
        endpoint.drop(reason);
      },
    });
    endpoint.react = () => (endpoint.isSilent ? { status: 'retry', kind: 'transient', reason: 'Silent.' } : ACCEPTED);
    const fastClock = { ...hastyClock, monotonicMs: () => 100 * hastyClock.monotonicMs() };
    await using rig = startRig(endpoint, 'live_first', fastClock);
    await waitFor(() => endpoint.opens === 1);
    endpoint.unreachable = refused();
    await rig.append(5);
    const before = endpoint.probes;
    await waitFor(() => endpoint.probes > before + 3);
    endpoint.unreachable = undefined;
    await rig.drained();
    expect(endpoint.opens).toBe(2);
  });

  it('ends the wait at a network change', async () => {
    const endpoint = new ScriptedEndpoint();
    endpoint.unreachable = refused();
    await using rig = startRig(endpoint);
    await waitFor(() => endpoint.probes === 1);
    endpoint.unreachable = undefined;
    rig.runner.networkChanged();
    await waitFor(() => rig.runner.status().state === 'connected');
  });

  it('backs off from a peer that refuses, longer each time, and shows when it tries again', async () => {
    const endpoint = new ScriptedEndpoint();
    for (let i = 0; i < 6; i += 1) endpoint.refusals.push(new GatewayError('GW_UNAUTHORIZED', 'wrong password'));
    await using rig = startRig(endpoint, 'live_first', hastyClock);
    const waits: number[] = [];
    await waitFor(() => {
      const { nextAttemptMs, state, failedAttempts } = rig.runner.status();
      if (nextAttemptMs !== undefined && waits.length < failedAttempts) waits.push(nextAttemptMs);
      return state === 'connected';
    });
    expect(endpoint.opens).toBe(7);
    expect(rig.telemetry.of('endpoint_unreachable')).toHaveLength(6);
    expect(rig.runner.status()).not.toHaveProperty('reason');
  });

  it('backs off from a peer that refuses the probe already', async () => {
    const endpoint = new ScriptedEndpoint();
    endpoint.unreachable = new GatewayError('GW_UNAUTHORIZED', 'wrong password of the proxy');
    await using rig = startRig(endpoint);
    await waitFor(() => rig.runner.status().state === 'backing_off');
    expect(rig.runner.status()).toMatchObject({ kind: 'unauthorized', failedAttempts: 1 });
    await waitFor(() => rig.runner.status().failedAttempts === 3);
    await waitFor(() => rig.runner.status().state === 'backing_off');
    // The third wait is 2 to 4 s.
    expect(rig.runner.status().nextAttemptMs).toBeGreaterThan(1500);
    expect(endpoint.probes).toBe(3);
  });

  it('names each endpoint and each cause in the rate limit of its failures', async () => {
    const endpoint = new ScriptedEndpoint();
    endpoint.refusals.push(
      new GatewayError('GW_TLS', 'wrong name'),
      new GatewayError('GW_TLS', 'wrong name'),
      new GatewayError('GW_UNAUTHORIZED', 'wrong password'),
    );
    await using rig = startRig(endpoint, 'live_first', hastyClock);
    await waitFor(() => rig.runner.status().state === 'connected');
    expect(rig.telemetry.of('endpoint_unreachable').map(({ fields }) => fields['key'])).toEqual([
      '$upstream GW_TLS',
      '$upstream GW_TLS',
      '$upstream GW_UNAUTHORIZED',
    ]);
  });

  it('drops lose nothing', async () => {
    const endpoint = new ScriptedEndpoint();
    let budget = 5;
    endpoint.react = () => {
      budget -= 1;
      if (budget > 0) return { status: 'accepted' };
      budget = 17;
      return 'drop';
    };
    await using rig = startRig(endpoint, 'live_first', hastyClock);
    const texts = await rig.append(400);
    await rig.drained();
    expect([...new Set(endpoint.accepted)].sort()).toEqual([...texts].sort());
    expect(await rig.outbox.quarantined({ limit: 1 })).toEqual([]);
  });
});

describe('a connection that is taken away again and again', () => {
  it('is made less and less often, and says why it may be', async () => {
    const waits: number[] = [];
    const noting: Clock = { ...hastyClock, sleep: (ms, signal) => (waits.push(ms), hastyClock.sleep(ms, signal)) };
    const endpoint = new ScriptedEndpoint();
    await using rig = startRig(endpoint, 'live_first', noting);
    const reasons = (): unknown[] => rig.telemetry.of('endpoint_disconnected').map(({ fields }) => fields['reason']);
    for (let count = 1; count <= 11; count += 1) {
      await rig.append(1);
      await rig.drained();
      endpoint.drop('taken away');
      await waitFor(() => reasons().length === count);
    }
    expect(reasons().slice(0, 5).join(' ')).not.toContain('same client id');
    expect(reasons().at(-1)).toContain('same client id');
    // Doubled from 250 ms on.
    expect(Math.max(...waits)).toBeGreaterThan(2000);
  });
});

describe('lanes', () => {
  it('after an outage fresh messages go first and history drains beside them', async () => {
    const endpoint = new ScriptedEndpoint();
    endpoint.capabilities = { negativeAcknowledgement: true, window: 20, batchMessages: 5 };
    endpoint.react = () => 'hold';
    endpoint.unreachable = refused();
    await using rig = startRig(endpoint);
    const old = await rig.append(200, 'old');
    rig.outbox.queue('$upstream').split();
    endpoint.unreachable = undefined;
    rig.runner.networkChanged();
    // History leaves a tenth of the window free, and goes in whole batches.
    await waitFor(() => endpoint.held === 15);
    const fresh = await rig.append(60, 'new');
    // … which fresh messages take at once, without waiting for any answer.
    await waitFor(() => endpoint.held === 20);
    expect(endpoint.batches.flat().slice(15)).toEqual(fresh.slice(0, 5));
    while (rig.outbox.queue('$upstream').stats().messages > 0) {
      endpoint.release();
      await waitFor(() => endpoint.held > 0 || rig.outbox.queue('$upstream').stats().messages === 0);
    }
    const sent = endpoint.batches.flat();
    expect([...sent].sort()).toEqual([...old, ...fresh].sort());
    const oldBetween = sent.slice(15, sent.lastIndexOf('new59')).filter((text) => text.startsWith('old')).length;
    // At least a tenth of what the live lane sent, and hardly more.
    expect(oldBetween).toBeGreaterThanOrEqual(5);
    expect(oldBetween).toBeLessThanOrEqual(25);
  });

  it.each([
    ['carried nothing for a while and was never lost', 1, 16_000],
    ['is slower than what came in', 9, 600],
  ])('fresh messages go first again on a link that %s', async (_, answers, eachMs) => {
    const passing = new PassingClock();
    const endpoint = new ScriptedEndpoint();
    endpoint.capabilities = { negativeAcknowledgement: true, window: 20, batchMessages: 5 };
    endpoint.react = () => 'hold';
    await using rig = startRig(endpoint, 'live_first', passing);
    await rig.append(300, 'old');
    await waitFor(() => endpoint.held === 20);
    for (let count = 0; count < answers; count += 1) {
      expect(rig.outbox.queue('$upstream').stats().history.messages).toBe(0);
      passing.pass(eachMs);
      endpoint.release();
      await waitFor(() => endpoint.held >= 15);
    }
    await waitFor(() => rig.outbox.queue('$upstream').stats().live.messages === 0);
    const sent = endpoint.batches.flat().length;
    const fresh = await rig.append(60, 'new');
    endpoint.release();
    await waitFor(() => endpoint.batches.flat().length >= sent + 15);
    expect(endpoint.batches.flat().slice(sent, sent + 5)).toEqual(fresh.slice(0, 5));
    endpoint.react = () => ({ status: 'accepted' });
    endpoint.release();
    await rig.drained();
  });

  it('strict keeps the order of storing whatever happens', async () => {
    const endpoint = new ScriptedEndpoint();
    endpoint.unreachable = refused();
    await using rig = startRig(endpoint, 'strict');
    const old = await rig.append(50, 'old');
    rig.outbox.queue('$upstream').split();
    const fresh = await rig.append(20, 'new');
    endpoint.unreachable = undefined;
    rig.runner.networkChanged();
    await rig.drained();
    expect(endpoint.accepted).toEqual([...old, ...fresh]);
  });
});
