// A budget, a rate and urgent messages, with the pump and an outbox in memory.

import { describe, expect, it } from 'vitest';
import type { Message } from '../../../../src/core/message.ts';
import { Budget } from '../../../../src/upstream/budget.ts';
import { DrainRate } from '../../../../src/upstream/drain-rate.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { PassingClock } from '../../../support/passing-clock.ts';
import { ScriptedEndpoint } from '../../../support/scripted-endpoint.ts';
import { memorySpace } from '../../../support/state.ts';
import { clock, recordingTelemetry, startRig, type UpstreamRig } from '../../../support/upstream-rig.ts';
import { waitFor } from '../../../support/wait.ts';

const isUrgent = ({ properties }: Message): boolean => properties['level'] === 'alarm';
const URGENT = { properties: { level: 'alarm' } };
const KILOBYTE = 'x'.repeat(990);

function budgetOf(monthlyBytes: number, budgetClock = new ManualClock()): Budget {
  return new Budget({
    name: '$upstream',
    monthlyBytes,
    resetDay: 1,
    state: memorySpace(),
    clock: budgetClock,
    telemetry: recordingTelemetry(),
  });
}

async function spent(rig: UpstreamRig): Promise<void> {
  await rig.append(20, KILOBYTE);
  await waitFor(() => (rig.runner.status().budget?.usedBytes ?? 0) >= 10_000);
  await waitFor(() => rig.runner.status().inFlight === 0);
}

describe.each(['live_first', 'strict'] as const)('an endpoint whose budget is spent (%s)', (order) => {
  it('is quiet: what is urgent passes in its order, all else waits, and its health says so', async () => {
    const endpoint = new ScriptedEndpoint();
    await using rig = startRig(endpoint, order, clock, undefined, { budget: budgetOf(10_000), isUrgent });
    await spent(rig);
    const before = endpoint.accepted.length;
    // By one message at most: what is taken for a batch ends where the budget does.
    expect(before).toBeLessThanOrEqual(11);
    expect(rig.runner.status().budget?.usedBytes).toBeLessThanOrEqual(11_000);
    await rig.append(300, 'usual');
    const alarms = await rig.append(5, 'alarm', URGENT);
    await rig.append(300, 'more');
    alarms.push(...(await rig.append(5, 'late', URGENT)));
    await waitFor(() => endpoint.accepted.length >= before + alarms.length);
    expect(endpoint.accepted.slice(before)).toEqual(alarms);
    const waiting = 20 - before + 600;
    expect(rig.outbox.queue('$upstream').stats().messages).toBe(waiting);
    expect(rig.runner.health()).toEqual({
      status: 'degraded',
      reason: `The 10000 bytes of this month are used up: only urgent messages and commands pass until 2026-02-01; ${waiting} messages wait.`,
    });
  });

  it('sends all of it when the next month begins, each once', async () => {
    const endpoint = new ScriptedEndpoint();
    const budgetClock = new ManualClock();
    const budget = budgetOf(100_000, budgetClock);
    await using rig = startRig(endpoint, order, clock, undefined, { budget, isUrgent });
    await waitFor(() => rig.runner.status().state === 'connected');
    budget.spend(100_000);
    const texts = await rig.append(200, 'usual');
    const alarms = await rig.append(3, 'alarm', URGENT);
    await waitFor(() => endpoint.accepted.length === 3);
    budgetClock.advance(31 * 86_400_000);
    await rig.drained();
    expect(endpoint.accepted).toEqual([...alarms, ...texts]);
    // What waited lets fresh messages go first.
    expect(rig.runner.status().bytes.history > 0).toBe(order === 'live_first');
    expect(rig.runner.health()).toEqual({ status: 'running' });
  });

  it('sends nothing at all where nothing is urgent', async () => {
    const endpoint = new ScriptedEndpoint();
    await using rig = startRig(endpoint, order, clock, undefined, { budget: budgetOf(10_000) });
    await spent(rig);
    const before = endpoint.accepted.length;
    await rig.append(5, 'alarm', URGENT);
    await rig.append(100);
    expect(endpoint.accepted.length).toBe(before);
    expect(endpoint.batches.flat().length).toBe(before);
  });

  it('finds what is urgent again after it was refused and after the connection was lost', async () => {
    const endpoint = new ScriptedEndpoint();
    const budget = budgetOf(100_000);
    await using rig = startRig(endpoint, order, clock, undefined, { budget, isUrgent });
    await waitFor(() => rig.runner.status().state === 'connected');
    budget.spend(100_000);
    let refusals = 2;
    endpoint.react = () => {
      refusals -= 1;
      if (refusals === 1) return { status: 'retry', kind: 'throttled', reason: 'slow down', retryAfterMs: 1 };
      return refusals === 0 ? 'drop' : { status: 'accepted' };
    };
    await rig.append(100, 'usual');
    const alarms = await rig.append(1, 'alarm', URGENT);
    await waitFor(() => endpoint.accepted.length === 1);
    expect(endpoint.accepted).toEqual(alarms);
  });
});

describe('a rate of the history', () => {
  it('is kept to, while fresh messages go at any rate', async () => {
    const endpoint = new ScriptedEndpoint();
    endpoint.capabilities = { negativeAcknowledgement: true, window: 64, batchMessages: 16 };
    endpoint.react = () => 'hold';
    const passing = new PassingClock();
    const drainRate = new DrainRate(10_000, passing);
    await using rig = startRig(endpoint, 'live_first', passing, undefined, { drainRate });
    const old = await rig.append(100, KILOBYTE);
    await waitFor(() => endpoint.held >= 60);
    // What is in flight at the loss comes back, and all that waited longer than an outage is history.
    endpoint.drop();
    passing.pass(6000);
    endpoint.react = () => ({ status: 'accepted' });
    const startMs = passing.monotonicMs();
    await waitFor(() => endpoint.accepted.length >= 5);
    const fresh = await rig.append(200, 'fresh');
    await waitFor(() => endpoint.accepted.filter((text) => text.startsWith('fresh')).length === 200);
    const sentMeanwhile = (): number => endpoint.accepted.filter((text) => text.startsWith('x')).length;
    const seconds = (): number => (passing.monotonicMs() - startMs) / 1000;
    // One second's worth at once, then so much a second; about a kilobyte each.
    expect(sentMeanwhile()).toBeLessThanOrEqual(12 + 11 * seconds());
    await waitFor(() => sentMeanwhile() >= 30, { timeoutMs: 10_000 });
    expect(seconds()).toBeGreaterThan(1.5);
    passing.pass(20_000);
    expect(endpoint.accepted.filter((text) => text.startsWith('fresh'))).toEqual(fresh);
    expect(endpoint.accepted.filter((text) => text.startsWith('x'))).toEqual(old.slice(0, sentMeanwhile()));
    const { history, live } = rig.runner.status().bytes;
    expect(history).toBeGreaterThanOrEqual(30 * 990);
    expect(live).toBeGreaterThan(0);
  });

  it('is no matter for what is urgent', async () => {
    const endpoint = new ScriptedEndpoint();
    endpoint.react = () => 'hold';
    const passing = new PassingClock();
    await using rig = startRig(endpoint, 'live_first', passing, undefined, {
      drainRate: new DrainRate(100, passing),
      isUrgent,
    });
    await rig.append(50, KILOBYTE);
    const alarms = await rig.append(3, 'alarm', URGENT);
    await waitFor(() => endpoint.held > 0);
    endpoint.drop();
    passing.pass(6000);
    endpoint.react = () => ({ status: 'accepted' });
    const arrived = (): string[] => endpoint.accepted.filter((text) => text.startsWith('alarm'));
    await waitFor(() => arrived().length === 3, { timeoutMs: 5000 });
    expect(arrived()).toEqual(alarms);
    // At 100 bytes a second the fifty before them take minutes.
    expect(endpoint.accepted.length).toBeLessThan(12);
  });

  it('lets a message pass that is larger than a second of it, and the next one waits the longer', () => {
    const manual = new ManualClock();
    const rate = new DrainRate(1000, manual);
    expect(rate.room).toBe(1000);
    rate.spend(5000);
    expect(rate.room).toBe(0);
    expect(rate.waitMs).toBe(4100);
    manual.advance(4000);
    expect(rate.room).toBe(0);
    manual.advance(100);
    expect(rate.room).toBe(100);
    manual.advance(60_000);
    expect(rate.room).toBe(1000);
  });
});
