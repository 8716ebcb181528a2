import { describe, expect, it } from 'vitest';
import type { LogFields } from '../../../../src/core/log.ts';
import { createWatchdog, STALLED_AFTER_MS, type ProgressFacts } from '../../../../src/observe/watchdog.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

function setUp({ watched = true } = {}) {
  const watchdogMs = watched ? 20_000 : undefined;
  const clock = new ManualClock();
  const pings: string[] = [];
  const events: LogFields[] = [];
  const facts: { -readonly [Name in keyof ProgressFacts]: ProgressFacts[Name] } = {
    waitingAppends: 0,
    lastCommitAnsweredMs: clock.monotonicMs(),
    schedulers: [],
  };
  const watchdog = createWatchdog({
    clock,
    manager: { watchdogMs, alive: (status) => pings.push(status) },
    telemetry: { emit: (_name, fields = {}) => void events.push(fields) },
    facts: () => facts,
    statusLine: () => 'ok',
  });
  return { clock, pings, events, facts, watchdog };
}

describe('watchdog', () => {
  it('pings at half of the time that systemd allows', () => {
    const { watchdog, clock, pings } = setUp();
    watchdog.start();
    expect(pings).toHaveLength(1);
    clock.advance(60_000);
    expect(pings).toHaveLength(7);
    watchdog.stop();
    clock.advance(60_000);
    expect(pings).toHaveLength(7);
    expect(clock.waiting).toBe(0);
  });

  it('takes an idle gateway for alive, for a day', () => {
    const { watchdog, clock, pings, events } = setUp();
    watchdog.start();
    clock.advance(86_400_000);
    expect(pings).toHaveLength(8641);
    expect(events).toEqual([]);
  });

  it('does not judge the first append after a quiet day by the commit of the day before', () => {
    const { watchdog, clock, facts } = setUp();
    watchdog.start();
    clock.advance(86_400_000);
    facts.waitingAppends = 5;
    expect(watchdog.stalled()).toEqual([]);
  });

  it('withholds the ping and says why when commits are not answered', () => {
    const { watchdog, clock, facts, pings, events } = setUp();
    watchdog.start();
    facts.waitingAppends = 5;
    clock.advance(STALLED_AFTER_MS + 10_000);
    const before = pings.length;
    clock.advance(10_000);
    expect(pings).toHaveLength(before);
    expect(watchdog.stalled()[0]).toMatch(/No commit was answered for \d+ s while 5 appends wait/);
    expect(events.at(-1)).toMatchObject({ reasons: [expect.stringContaining('No commit')] });
    // Answered with an error counts too: it is progress.
    facts.lastCommitAnsweredMs = clock.monotonicMs();
    clock.advance(10_000);
    expect(pings).toHaveLength(before + 1);
  });

  it('pings on while appends always wait and commits are answered', () => {
    const { watchdog, clock, facts, events } = setUp();
    watchdog.start();
    facts.waitingAppends = 100;
    for (let n = 0; n < 100; n += 1) {
      clock.advance(5000);
      facts.lastCommitAnsweredMs = clock.monotonicMs();
    }
    expect(events).toEqual([]);
  });

  it('withholds the ping when a scheduler stands still, and not for one that has no sign to give', () => {
    const { watchdog, clock, facts } = setUp();
    facts.schedulers = [
      { name: 'bus-1', lastProgressMs: clock.monotonicMs() },
      { name: 'broker', lastProgressMs: undefined },
    ];
    clock.advance(STALLED_AFTER_MS);
    expect(watchdog.stalled()).toEqual([]);
    clock.advance(1000);
    expect(watchdog.stalled()).toEqual([expect.stringContaining('bus-1')]);
  });

  it('looks, but does not ping, where systemd watches nothing', () => {
    const { watchdog, clock, pings, facts, events } = setUp({ watched: false });
    watchdog.start();
    facts.waitingAppends = 1;
    clock.advance(2 * STALLED_AFTER_MS);
    expect(pings).toEqual([]);
    expect(events.length).toBeGreaterThan(0);
  });
});
