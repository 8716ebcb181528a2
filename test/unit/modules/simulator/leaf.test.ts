import { describe, expect, it } from 'vitest';
import { climate, lampAfter } from '../../../../modules/simulator/leaf.ts';

describe('the greenhouse', () => {
  it('is warmer with its lamp on', () => {
    expect(climate(0, true).temperature).toBeGreaterThan(climate(0, false).temperature);
    expect(climate(0, false)).toEqual({ temperature: 21, humidity: 62, lamp: false });
  });

  it('switches its lamp by command, and by nothing else', () => {
    expect(lampAfter('{"lamp":true}', false)).toBe(true);
    expect(lampAfter('{"lamp":"on"}', false)).toBe(false);
    expect(lampAfter('null', true)).toBe(true);
    expect(lampAfter('{', true)).toBe(true);
  });
});
