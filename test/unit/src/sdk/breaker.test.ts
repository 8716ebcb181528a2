import { describe, expect, it } from 'vitest';
import { Breaker } from '../../../../src/sdk/breaker.ts';

const middle = { fraction: () => 0.5, id: () => '' };

function breaker(): Breaker {
  return new Breaker({ failures: 3, probeMinMs: 1000, probeMaxMs: 8000, random: middle });
}

describe('circuit breaker', () => {
  it('opens after so many silences in a row', () => {
    const device = breaker();
    device.silent(0);
    device.silent(10);
    device.answered();
    device.silent(20);
    device.silent(30);
    expect(device.isOpen).toBe(false);
    device.silent(40);
    expect(device.isOpen).toBe(true);
    expect(device.nextProbeMs).toBe(1040);
  });

  it('doubles the time between probes up to the longest', () => {
    const device = breaker();
    for (let count = 0; count < 3; count += 1) device.silent(0);
    const waits: number[] = [device.nextProbeMs];
    for (let count = 0; count < 5; count += 1) {
      device.silent(0);
      waits.push(device.nextProbeMs);
    }
    expect(waits).toEqual([1000, 2000, 4000, 8000, 8000, 8000]);
  });

  it('closes at the first answer and starts over', () => {
    const device = breaker();
    for (let count = 0; count < 6; count += 1) device.silent(0);
    device.answered();
    expect(device.isOpen).toBe(false);
    for (let count = 0; count < 3; count += 1) device.silent(100);
    expect(device.nextProbeMs).toBe(1100);
  });

  it('probes at once on a new connection', () => {
    const device = breaker();
    for (let count = 0; count < 6; count += 1) device.silent(0);
    device.reconnected(500);
    expect(device.isOpen).toBe(true);
    expect(device.nextProbeMs).toBe(500);
    device.silent(600);
    expect(device.nextProbeMs).toBe(1600);
  });

  it('spreads probes by a fifth', () => {
    const early = new Breaker({
      failures: 1,
      probeMinMs: 1000,
      probeMaxMs: 8000,
      random: { ...middle, fraction: () => 0 },
    });
    const late = new Breaker({
      failures: 1,
      probeMinMs: 1000,
      probeMaxMs: 8000,
      random: { ...middle, fraction: () => 1 },
    });
    early.silent(0);
    late.silent(0);
    expect(early.nextProbeMs).toBeCloseTo(800);
    expect(late.nextProbeMs).toBeCloseTo(1200);
  });
});
