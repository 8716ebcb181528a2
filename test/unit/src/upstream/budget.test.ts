import { describe, expect, it } from 'vitest';
import type { StateSpace } from '../../../../src/core/state.ts';
import { Budget } from '../../../../src/upstream/budget.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { memorySpace } from '../../../support/state.ts';
import { recordingTelemetry } from '../../../support/upstream-rig.ts';

const DAY_MS = 86_400_000;
const MONTHLY = 1_000_000;

/** The clock stands at 2026-01-02. */
async function start({ clock = new ManualClock(), state = memorySpace(), resetDay = 1 } = {}) {
  const telemetry = recordingTelemetry();
  let changes = 0;
  const budget = new Budget({ name: '$upstream', monthlyBytes: MONTHLY, resetDay, state, clock, telemetry });
  await budget.start(() => (changes += 1));
  const events = (): string[] => telemetry.events.map(({ name }) => name);
  return { budget, clock, state, telemetry, events, changes: () => changes };
}

describe('a monthly budget', () => {
  it('tells of 80 % and of its end, once each', async () => {
    const { budget, events, telemetry, changes } = await start();
    budget.spend(799_999);
    expect(events()).toEqual([]);
    budget.spend(1);
    budget.spend(199_999);
    expect(events()).toEqual(['budget_near']);
    expect([budget.isSpent, changes()]).toEqual([false, 0]);
    budget.spend(1);
    budget.spend(1);
    expect(events()).toEqual(['budget_near', 'budget_spent']);
    expect([budget.isSpent, changes()]).toEqual([true, 1]);
    expect(telemetry.of('budget_spent')[0]?.fields).toEqual({
      endpoint: '$upstream',
      monthlyBytes: MONTHLY,
      usedBytes: MONTHLY,
      renewsOn: '2026-02-01',
    });
  });

  it('tells of both when one message passes both', async () => {
    const { budget, events } = await start();
    budget.spend(2 * MONTHLY);
    expect(events()).toEqual(['budget_near', 'budget_spent']);
  });

  it.each([
    [1, '2026-01-31T23:59:59Z', '2026-02-01T00:00:00Z'],
    [15, '2026-01-14T23:59:59Z', '2026-01-15T00:00:00Z'],
    [28, '2026-01-27T23:59:59Z', '2026-01-28T00:00:00Z'],
  ])('begins anew on day %i at 0:00 UTC, and wakes who waits', async (resetDay, before, after) => {
    const { budget, clock, events, changes } = await start({ resetDay });
    budget.spend(MONTHLY);
    clock.advance(Date.parse(before) - clock.wallMs());
    expect(budget.isSpent).toBe(true);
    clock.advance(Date.parse(after) - clock.wallMs());
    expect(budget.isSpent).toBe(false);
    expect(budget.status().usedBytes).toBe(0);
    expect(events().at(-1)).toBe('budget_renewed');
    expect(changes()).toBe(2);
  });

  it('counts over an orderly restart to the byte, and over the end of the year', async () => {
    const first = await start();
    first.budget.spend(123_457);
    await first.budget.stop();
    const second = await start(first);
    expect(second.budget.status().usedBytes).toBe(123_457);
    second.budget.spend(3);
    await second.budget.stop();
    const clock = new ManualClock();
    clock.step(365 * DAY_MS);
    const third = await start({ clock, state: first.state });
    expect(third.budget.status()).toEqual({ monthlyBytes: MONTHLY, usedBytes: 0, renewsOn: '2027-02-01' });
  });

  it('gives nothing back at a crash, and takes a step at most', async () => {
    const { budget, state, clock } = await start();
    for (let sent = 0; sent < 300; sent += 1) {
      budget.spend(1000);
      await Promise.resolve();
    }
    await new Promise(setImmediate);
    // No stop.
    const { usedBytes } = (await start({ state, clock })).budget.status();
    expect(usedBytes).toBeGreaterThanOrEqual(300_000);
    expect(usedBytes).toBeLessThanOrEqual(311_000);
  });

  it('writes to the disk once a step, not for each message', async () => {
    const inner = memorySpace();
    let writes = 0;
    const state: StateSpace = { ...inner, write: (changes) => ((writes += 1), inner.write(changes)) };
    const { budget } = await start({ state });
    for (let sent = 0; sent < 10_000; sent += 1) {
      budget.spend(10);
      if (sent % 50 === 0) await new Promise(setImmediate);
    }
    expect(writes).toBeGreaterThan(5);
    expect(writes).toBeLessThan(30);
  });

  it.each(['unknown', 'restored'] as const)('begins no month twice by a clock that is behind (%s)', async (quality) => {
    const clock = new ManualClock();
    const first = await start({ clock });
    first.budget.spend(500);
    await first.budget.stop();
    clock.step(-400 * DAY_MS, quality);
    const second = await start({ clock, state: first.state });
    second.budget.spend(100);
    clock.advance(45 * DAY_MS);
    expect(second.budget.status().usedBytes).toBe(600);
    clock.step(355 * DAY_MS, 'synced');
    clock.advance(600_000);
    expect(second.budget.status().usedBytes).toBe(600);
    clock.step(31 * DAY_MS);
    clock.advance(600_000);
    expect(second.budget.status().usedBytes).toBe(0);
  });

  it('keeps what was sent before the clock was known', async () => {
    const clock = new ManualClock();
    clock.step(-20_000 * DAY_MS, 'unknown');
    const first = await start({ clock });
    first.budget.spend(500);
    expect(first.budget.status().renewsOn).toBeUndefined();
    await first.budget.stop();
    clock.step(20_000 * DAY_MS, 'synced');
    const second = await start({ clock, state: first.state });
    expect(second.budget.status()).toEqual({ monthlyBytes: MONTHLY, usedBytes: 500, renewsOn: '2026-02-01' });
  });

  it('goes on when the store does not, and adds what it had once it is back', async () => {
    const inner = memorySpace();
    await inner.write([{ key: '$upstream', value: Buffer.from('{"month":"2026-01-01","bytes":400000}') }]);
    let isOpen = false;
    const guard = <T>(work: () => Promise<T>): Promise<T> => (isOpen ? work() : Promise.reject(new Error('closed')));
    const state: StateSpace = {
      ...inner,
      get: (key) => guard(() => inner.get(key)),
      write: (changes) => guard(() => inner.write(changes)),
    };
    const { budget, events } = await start({ state });
    budget.spend(50_000);
    await new Promise(setImmediate);
    expect(events()).toContain('budget_not_kept');
    isOpen = true;
    budget.spend(50_000);
    await new Promise(setImmediate);
    expect(budget.status().usedBytes).toBe(500_000);
  });
});
