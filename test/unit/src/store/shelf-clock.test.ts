import { describe, expect, it } from 'vitest';
import { ShelfClock } from '../../../../src/store/shelf-clock.ts';
import type { ClockQuality, Timestamp } from '../../../../src/core/time.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const HOUR_MS = 3_600_000;

function clockAt(now: { bootId: string; quality: ClockQuality; wallMs: number; monotonicMs: number }) {
  const clock = new ManualClock();
  clock.bootId = now.bootId;
  const startMs = clock.monotonicMs();
  const elapsedMs = clock.monotonicMs.bind(clock);
  const monotonicMs = (): number => now.monotonicMs + elapsedMs() - startMs;
  const { bootId, quality, wallMs } = now;
  return Object.assign(clock, {
    monotonicMs,
    now: (): Timestamp => ({ bootId, clock: quality, wallMs, monotonicMs: monotonicMs() }),
  });
}

const last = {
  shelfMs: 1000,
  time: { bootId: 'boot-1', monotonicMs: 50_000, wallMs: 1_000_000, clock: 'synced' as const },
};

describe('ShelfClock', () => {
  it('goes on with the monotonic clock within a boot, whatever the wall clock does', () => {
    const clock = clockAt({ bootId: 'boot-1', quality: 'synced', wallMs: 9e12, monotonicMs: 53_000 });
    const shelf = new ShelfClock(clock, last, 3600);
    expect(shelf.nowMs()).toBe(4000);
    clock.advance(500);
    expect(shelf.nowMs()).toBe(4500);
  });

  it('counts the time that the box was off when both clocks can be trusted', () => {
    const clock = clockAt({ bootId: 'boot-2', quality: 'synced', wallMs: 1_000_000 + HOUR_MS, monotonicMs: 10_000 });
    expect(new ShelfClock(clock, last, 24 * 3600).nowMs()).toBe(1000 + HOUR_MS);
  });

  it('never lets a step of the clock expire the whole buffer at once', () => {
    const clock = clockAt({ bootId: 'boot-2', quality: 'synced', wallMs: 9e12, monotonicMs: 10_000 });
    expect(new ShelfClock(clock, last, 7200).nowMs()).toBe(1000 + HOUR_MS);
  });

  it('counts the time since boot only when a clock cannot be trusted, or went backwards', () => {
    const restored = clockAt({ bootId: 'boot-2', quality: 'restored', wallMs: 9e12, monotonicMs: 10_000 });
    expect(new ShelfClock(restored, last, 7200).nowMs()).toBe(11_000);
    const backwards = clockAt({ bootId: 'boot-2', quality: 'synced', wallMs: 0, monotonicMs: 10_000 });
    expect(new ShelfClock(backwards, last, 7200).nowMs()).toBe(11_000);
  });
});
