import { beforeEach, describe, expect, it } from 'vitest';
import { PollLoop } from '../../../../src/sdk/poll-loop.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const PERIOD_MS = 1000;

describe('a loop of polls', () => {
  let clock: ManualClock;
  let startMs: number;
  let stop: AbortController;
  let polls: number[];
  let end: () => void;
  let atMs: (dueMs: number, nowMs: number) => number;
  let loop: PollLoop;

  beforeEach(() => {
    clock = new ManualClock();
    startMs = clock.monotonicMs();
    stop = new AbortController();
    polls = [];
    atMs = (dueMs) => dueMs;
    loop = new PollLoop({
      clock,
      stop: stop.signal,
      poll: (dueMs) => {
        polls.push(dueMs - startMs);
        return new Promise((resolve) => {
          end = resolve;
        });
      },
      atMs: (dueMs, nowMs) => atMs(dueMs, nowMs),
    });
  });

  function start(): void {
    loop.start({ periodMs: PERIOD_MS, firstMs: startMs, phase: 0.5 });
    clock.advance(0);
  }

  async function ended(): Promise<void> {
    end();
    await loop.settled();
  }

  it('polls at once, then on its grid', async () => {
    start();
    await ended();
    clock.advance(499);
    expect(polls).toEqual([0]);
    clock.advance(1);
    await ended();
    clock.advance(PERIOD_MS);
    expect(polls).toEqual([0, 500, 1500]);
  });

  it('makes one poll at a time, and counts once what fell due meanwhile', async () => {
    start();
    await ended();
    clock.advance(500);
    clock.advance(3 * PERIOD_MS);
    loop.pollNow();
    expect(polls).toEqual([0, 500]);
    await ended();
    clock.advance(0);
    expect(polls).toEqual([0, 500, 3500]);
    const sentMs = clock.monotonicMs() + 7;
    clock.advance(20);
    expect(loop.timing(startMs + 3500, sentMs)).toEqual({
      periodMs: PERIOD_MS,
      latenessMs: 7,
      durationMs: 13,
      missedPolls: 2,
    });
    expect(loop.timing(startMs + 3500, sentMs).missedPolls).toBe(0);
  });

  it('polls out of turn without giving up the turn', async () => {
    start();
    await ended();
    clock.advance(200);
    loop.pollNow();
    await ended();
    clock.advance(300);
    expect(polls).toEqual([0, 200, 500]);
  });

  it('polls when it is told to in place of the time that is due', async () => {
    start();
    atMs = (dueMs, nowMs) => Math.min(dueMs, nowMs + 100);
    await ended();
    clock.advance(100);
    expect(polls).toEqual([0, 100]);
  });

  it('starts none after its end, and none before its start', async () => {
    loop.pollNow();
    expect([polls, loop.isStarted]).toEqual([[], false]);
    start();
    expect([loop.isStarted, loop.isRunning]).toEqual([true, true]);
    stop.abort();
    await ended();
    loop.pollNow();
    clock.advance(10 * PERIOD_MS);
    expect([polls, clock.waiting]).toEqual([[0], 0]);
  });
});
