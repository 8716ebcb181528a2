import { beforeEach, describe, expect, it } from 'vitest';
import { LateAnswers, type AnswerOf } from '../../../../modules/modbus/late-answers.ts';
import type { ModbusRequest } from '../../../../modules/modbus/pdu.ts';

const LOW: ModbusRequest = { functionCode: 3, address: 10, quantity: 1 };
const HIGH: ModbusRequest = { functionCode: 3, address: 500, quantity: 1 };
const INPUT: ModbusRequest = { functionCode: 4, address: 10, quantity: 1 };
const WRITE: ModbusRequest = { functionCode: 6, address: 10, value: 1 };
const TIMEOUT_MS = 1000;
const UNIT = 1;

describe('what a unit may be asked while answers are owed', () => {
  let late: LateAnswers;
  /** Two exchanges of 30 ms a long time ago, so that it is known how fast the unit is. */
  beforeEach(() => {
    late = new LateAnswers();
    answered(LOW, -60_000, 30);
    answered(HIGH, -50_000, 30);
  });

  function answered(request: ModbusRequest, sentMs: number, tookMs: number): AnswerOf {
    return late.answered(UNIT, request, TIMEOUT_MS, sentMs, sentMs + tookMs);
  }

  function unanswered(request: ModbusRequest, sentMs: number): void {
    late.unanswered(UNIT, request, TIMEOUT_MS, sentMs, sentMs + TIMEOUT_MS);
  }

  const readyMs = (request: ModbusRequest, nowMs: number): number =>
    Math.max(late.readyMs(UNIT, request, nowMs), nowMs);

  it('is anything, of a unit that answers', () => {
    expect(readyMs(HIGH, 0)).toBe(0);
  });

  it('is the same request or another function at once, behind others, and the rest after a timeout', () => {
    unanswered(LOW, 0);
    expect([readyMs(LOW, 1000), readyMs(INPUT, 1000), readyMs(HIGH, 1000)]).toEqual([1000, 1000, 2000]);
    expect(readyMs({ ...LOW, quantity: 2 }, 1000)).toBe(2000);
    expect([late.yields(UNIT, 1999), late.yields(UNIT, 2000)]).toEqual([true, false]);
    expect(late.readyMs(2, HIGH, 1000)).toBe(0);
  });

  it('is the same write at once, and no other', () => {
    unanswered(WRITE, 0);
    expect(readyMs(WRITE, 1000)).toBe(1000);
    expect(readyMs({ ...WRITE, value: 2 }, 1000)).toBe(2000);
  });

  it('is anything again a timeout after the same request was answered as fast as ever: a frame was lost', () => {
    unanswered(LOW, 0);
    answered(LOW, 1000, 30);
    expect([readyMs(HIGH, 1030), readyMs(LOW, 1030), readyMs(INPUT, 1030)]).toEqual([2130, 2130, 1030]);
    // Which is not doubted again.
    expect(answered(HIGH, 2130, 30)).toBe('unsure');
    // Once it is silent for another timeout.
    expect(readyMs(LOW, 2160)).toBe(3260);
    expect(answered(LOW, 3260, 30)).toBe('own');
    expect(readyMs(HIGH, 3290)).toBe(3290);
  });

  it.each(['that came oddly slowly to the repeated request', 'of a unit that was never heard before'])(
    'is nothing for ten timeouts after an answer %s',
    (what) => {
      if (what.includes('never')) late = new LateAnswers();
      unanswered(LOW, 0);
      expect(answered(LOW, 1000, 600)).toBe('own');
      expect([readyMs(HIGH, 1600), readyMs(LOW, 1600)]).toEqual([11_000, 11_000]);
      // Or until what is owed has come.
      late.heard({ unitId: UNIT, functionCode: 3 }, 4200);
      expect(readyMs(HIGH, 4200)).toBe(4200);
    },
  );

  it('doubts a quick answer of a unit that is slow at times', () => {
    answered(LOW, -10_000, 700);
    unanswered(LOW, 0);
    answered(LOW, 1000, 30);
    expect(readyMs(HIGH, 1030)).toBe(11_000);
  });

  it('is the same request as often as it is due, once a silence has passed', () => {
    unanswered(LOW, 0);
    answered(LOW, 1000, 30);
    for (let sentMs = 2130; sentMs < 9000; sentMs += 200) {
      expect(readyMs(LOW, sentMs)).toBe(sentMs);
      expect(answered(LOW, sentMs, 30)).toBe('own');
    }
    // Another one is still not sure.
    expect([readyMs(HIGH, 9000), answered(HIGH, 9000, 30)]).toEqual([9000, 'unsure']);
  });

  it('learns nothing of one odd answer that nothing came after', () => {
    unanswered(LOW, 0);
    answered(LOW, 1000, 600);
    answered(HIGH, 11_000, 30);
    unanswered(LOW, 20_000);
    answered(LOW, 21_000, 30);
    expect(readyMs(HIGH, 21_030)).toBe(22_130);
  });

  it('takes a lost frame for that in a unit that is always slow', () => {
    late = new LateAnswers();
    for (let sentMs = -40_000; sentMs < -10_000; sentMs += 1000) answered(LOW, sentMs, 350 - (sentMs % 3000) / 100);
    unanswered(LOW, 0);
    answered(LOW, 1000, 340);
    expect(readyMs(HIGH, 1340)).toBe(2440);
  });

  it('takes an odd answer for no other request than the one that is owed', () => {
    unanswered(LOW, 0);
    expect(answered(HIGH, 2000, 400)).toBe('other');
    // Which is owed itself now.
    expect(readyMs(LOW, 2400)).toBe(12_000);
    late.heard({ unitId: UNIT, functionCode: 3 }, 2430);
    expect(answered(LOW, 2430, 30)).toBe('own');
    unanswered(LOW, 700_000);
    expect(answered(HIGH, 710_000, 30)).toBe('own');
    // The answer to a write says itself what it is to.
    unanswered(WRITE, 800_000);
    expect(answered({ ...WRITE, value: 2 }, 802_000, 400)).toBe('own');
  });

  it('waits in a unit that was late, also with the same request, and for every answer that is owed', () => {
    unanswered(LOW, 0);
    late.heard({ unitId: UNIT, functionCode: 3 }, 1100);
    expect(readyMs(LOW, 1100)).toBe(2000);
    unanswered(LOW, 10_000);
    unanswered(LOW, 12_000);
    expect(readyMs(HIGH, 13_000)).toBe(22_000);
    answered(LOW, 14_000, 400);
    late.heard({ unitId: UNIT, functionCode: 3 }, 15_000);
    expect(readyMs(HIGH, 15_000)).toBe(24_000);
    late.heard({ unitId: UNIT, functionCode: 3 }, 16_000);
    expect(readyMs(HIGH, 16_000)).toBe(16_000);
  });

  it('hears frames of exceptions, and none of units that owe nothing', () => {
    unanswered(LOW, 0);
    late.heard({ unitId: 2, functionCode: 3 }, 1100);
    late.heard({ unitId: UNIT, functionCode: 4 }, 1100);
    expect(readyMs(LOW, 1100)).toBe(1100);
    late.heard({ unitId: UNIT, functionCode: 0x83 }, 1100);
    expect([readyMs(LOW, 1100), readyMs(HIGH, 1100)]).toEqual([2000, 2000]);
  });

  it('forgets what is too old to come, and a unit that was late long ago', () => {
    unanswered(LOW, 0);
    answered(LOW, 60_000, 30);
    expect(readyMs(HIGH, 60_030)).toBe(60_030);
    unanswered(LOW, 100_000);
    late.heard({ unitId: UNIT, functionCode: 3 }, 101_500);
    unanswered(LOW, 800_000);
    expect(readyMs(LOW, 801_000)).toBe(801_000);
  });
});
