import { afterEach, describe, expect, it, vi } from 'vitest';
import { loadRhea } from '../../../../src/wire/amqp-rhea.ts';

afterEach(() => vi.restoreAllMocks());

describe('the library', () => {
  it('says nothing past the log about outcomes that it does not know', async () => {
    const told = vi.spyOn(console, 'error').mockImplementation(() => {});
    const { message } = await loadRhea();
    expect(message.unwrap_outcome(null)).toBeNull();
    expect(message.unwrap_outcome({ descriptor: { value: 0x34 } })).toEqual({ descriptor: { value: 0x34 } });
    expect(told).not.toHaveBeenCalled();
  });

  it('knows the outcomes of the specification', async () => {
    const { message } = await loadRhea();
    for (const value of [0x24, 'amqp:accepted:list']) {
      const outcome = { descriptor: { value }, value: [] };
      const { constructor } = message.unwrap_outcome(outcome) as { constructor: { composite_type?: string } };
      expect(constructor.composite_type).toBe('accepted');
    }
  });
});
