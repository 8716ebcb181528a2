import { beforeEach, describe, expect, it } from 'vitest';
import { LateAnswers } from '../../../../modules/modbus/late-answers.ts';
import type { ModbusRequest } from '../../../../modules/modbus/pdu.ts';

const LOW: ModbusRequest = { functionCode: 3, address: 10, quantity: 1 };
const HIGH: ModbusRequest = { functionCode: 3, address: 500, quantity: 1 };
const INPUT: ModbusRequest = { functionCode: 4, address: 10, quantity: 1 };
const TIMEOUT_MS = 1000;

describe('what a unit may be asked while answers are owed', () => {
  let late: LateAnswers;
  beforeEach(() => {
    late = new LateAnswers();
  });

  it('is anything, of a unit that answers', () => {
    late.answered(1, LOW, 0, 20);
    expect(late.readyMs(1, HIGH)).toBe(0);
  });

  it('is nothing for a timeout, then the same read or another function, and of another unit anything', () => {
    late.unanswered(1, LOW, TIMEOUT_MS, 0, 1000);
    expect(late.readyMs(1, LOW)).toBe(2000);
    expect(late.readyMs(1, INPUT)).toBe(2000);
    expect(late.readyMs(1, HIGH)).toBe(5000);
    expect(late.readyMs(1, { functionCode: 3, address: 10, quantity: 2 })).toBe(5000);
    expect(late.readyMs(2, HIGH)).toBe(0);
  });

  it('is never the same write', () => {
    const write: ModbusRequest = { functionCode: 6, address: 10, value: 1 };
    late.unanswered(1, write, TIMEOUT_MS, 0, 1000);
    expect(late.readyMs(1, write)).toBe(5000);
  });

  it('is nothing of that function for as long as the answer that came may have taken', () => {
    late.unanswered(1, LOW, TIMEOUT_MS, 0, 1000);
    late.answered(1, LOW, 2000, 2400);
    expect(late.readyMs(1, LOW)).toBe(5000);
    expect(late.readyMs(1, HIGH)).toBe(5000);
    expect(late.readyMs(1, INPUT)).toBe(2000);
    // The silence shows that nothing is owed any more.
    late.answered(1, HIGH, 5000, 5020);
    expect(late.readyMs(1, LOW)).toBe(2000);
  });

  it('waits for every answer that is owed', () => {
    late.unanswered(1, LOW, TIMEOUT_MS, 0, 1000);
    late.unanswered(1, LOW, TIMEOUT_MS, 2000, 3000);
    late.answered(1, LOW, 4000, 4400);
    expect(late.readyMs(1, HIGH)).toBe(4000 + 4400 * 1.25);
  });

  it('forgets what is too old to come', () => {
    late.unanswered(1, LOW, TIMEOUT_MS, 0, 1000);
    late.answered(1, LOW, 60_000, 60_020);
    expect(late.readyMs(1, HIGH)).toBe(2000);
  });
});
