import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { watchStall } from '../../../../src/upstream/stall-watch.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

type Link = 'up' | 'slow' | 'vanishing' | 'refusing';
const SLOW_MS = 1500;

function setup() {
  const clock = new ManualClock();
  const session = new AbortController();
  const peer = { link: 'up' as Link, inFlight: 5, answers: 0, probes: 0 };
  let verdict: boolean | undefined;
  const endpoint = {
    probe: async (signal: AbortSignal): Promise<void> => {
      peer.probes += 1;
      if (peer.link === 'up') return;
      if (peer.link === 'refusing') throw new Error('ECONNREFUSED');
      if (peer.link === 'slow') return clock.sleep(SLOW_MS, signal);
      // A lost packet is sent again after 1, 2, 4 … s (RFC 6298 §2.1, §5.5); the system gives up after two minutes.
      for (let pauseMs = 1000; pauseMs <= 64_000; pauseMs *= 2) {
        await clock.sleep(pauseMs, signal);
        if ((peer.link as Link) === 'up') return;
      }
      throw new Error('ETIMEDOUT');
    },
  };
  const watching = watchStall({
    clock,
    endpoint,
    inFlight: () => peer.inFlight,
    answers: () => peer.answers,
    signal: session.signal,
  }).then((result) => (verdict = result));
  const pass = async (ms: number, each: () => void = () => {}): Promise<void> => {
    for (let passed = 0; passed < ms; passed += 100) {
      each();
      clock.advance(100);
      await turn();
    }
  };
  const end = async (): Promise<boolean | undefined> => {
    session.abort();
    await watching;
    return verdict;
  };
  return { peer, pass, end, verdict: () => verdict };
}

describe('stall watch', () => {
  it.each([
    ['vanishing', 3],
    ['vanishing', 15],
    ['vanishing', 60],
    ['refusing', 15],
  ] as const)('has a dead connection made anew within 2.5 s of the return (%s for %i s)', async (link, secs) => {
    const { peer, pass, verdict } = setup();
    peer.link = link;
    await pass(secs * 1000);
    expect(verdict()).toBeUndefined();
    peer.link = 'up';
    await pass(2500);
    expect(verdict()).toBe(true);
  });

  it('leaves a peer alone that is slow or stopped but takes connections', async () => {
    const { peer, pass, end } = setup();
    await pass(30_000);
    expect(peer.probes).toBeGreaterThan(5);
    expect(await end()).toBe(false);
  });

  it('leaves a slow link alone whose answers take long, and whose connects do', async () => {
    const { peer, pass, end } = setup();
    peer.link = 'slow';
    await pass(30_000);
    expect(peer.probes).toBeGreaterThan(5);
    expect(await end()).toBe(false);
  });

  it('asks nothing while answers come, or nothing is in flight', async () => {
    const { peer, pass, end } = setup();
    peer.link = 'refusing';
    await pass(10_000, () => (peer.answers += 1));
    peer.inFlight = 0;
    await pass(10_000);
    expect(peer.probes).toBe(0);
    expect(await end()).toBe(false);
  });

  it('forgets a failure when the old connection answers again by itself', async () => {
    const { peer, pass, end } = setup();
    peer.link = 'refusing';
    await pass(4000);
    expect(peer.probes).toBeGreaterThan(0);
    peer.answers += 1;
    await pass(600);
    peer.link = 'up';
    await pass(10_000);
    expect(await end()).toBe(false);
  });
});
