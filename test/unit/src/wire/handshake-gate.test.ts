import { describe, expect, it } from 'vitest';
import { createHandshakeGate } from '../../../../src/wire/handshake-gate.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

function rig(options: { ratePerSec?: number; maxWaiting?: number; maxWaitMs?: number } = {}) {
  const clock = new ManualClock();
  const gate = createHandshakeGate({ ratePerSec: 20, maxWaiting: 100, maxWaitMs: 60_000, ...options, clock });
  const entered: string[] = [];
  const refused: string[] = [];
  const knock = (address: string): void =>
    gate.knock({
      address,
      enter: () => void entered.push(address),
      refuse: (reason) => void refused.push(`${address} ${reason}`),
    });
  return { clock, gate, entered, refused, knock };
}

describe('the gate', () => {
  it('lets in one at once and the rest at its rate, none lost', () => {
    const { clock, gate, entered, knock } = rig();
    for (let i = 0; i < 41; i += 1) knock('a');
    expect(entered).toHaveLength(1);
    clock.advance(1000);
    expect(entered.length).toBeGreaterThanOrEqual(20);
    expect(entered.length).toBeLessThanOrEqual(22);
    clock.advance(1100);
    expect(entered).toHaveLength(41);
    expect(gate.waiting).toBe(0);
    expect(clock.waiting).toBe(0);
  });

  it('keeps to its rate however often it is asked', () => {
    const { clock, entered, knock } = rig({ maxWaiting: 10_000 });
    for (let i = 0; i < 1000; i += 1) {
      clock.advance(10);
      knock('a');
    }
    // 10 s at 20 a second, and one at once.
    expect(entered.length).toBeGreaterThanOrEqual(199);
    expect(entered.length).toBeLessThanOrEqual(202);
  });

  it('lets addresses take turns: a flood delays itself', () => {
    const { clock, entered, knock } = rig();
    for (let i = 0; i < 80; i += 1) knock('flood');
    knock('quiet');
    clock.advance(150);
    expect(entered).toContain('quiet');
    expect(entered.length).toBeLessThanOrEqual(5);
  });

  it('turns away those of the longest line when nobody else may wait', () => {
    const { clock, gate, entered, refused, knock } = rig({ maxWaiting: 10 });
    for (let i = 0; i < 20; i += 1) knock('flood');
    expect(refused).toHaveLength(9);
    for (const address of ['a', 'b', 'c']) knock(address);
    expect(refused).toHaveLength(12);
    expect(refused.every((text) => text === 'flood handshakes_waiting')).toBe(true);
    expect(gate.waiting).toBe(10);
    clock.advance(1000);
    expect(entered.filter((address) => address !== 'flood')).toEqual(['a', 'b', 'c']);
    expect(entered).toHaveLength(11);
  });

  it('turns away who waited so long that it has given up, at no cost for others', () => {
    const { clock, entered, refused, knock } = rig({ ratePerSec: 1, maxWaitMs: 3000 });
    for (let i = 0; i < 10; i += 1) knock('a');
    clock.advance(10_000);
    expect(entered).toHaveLength(4);
    expect(refused).toEqual(Array.from({ length: 6 }, () => 'a handshake_wait'));
  });

  it('lets nobody in once it is closed', () => {
    const { clock, gate, entered, knock } = rig();
    knock('a');
    knock('a');
    gate.close();
    knock('a');
    clock.advance(10_000);
    expect(entered).toEqual(['a']);
    expect(clock.waiting).toBe(0);
  });
});
