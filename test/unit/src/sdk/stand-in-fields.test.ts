import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { captureFields, simulateFields } from '../../../../src/sdk/stand-in-fields.ts';

const device = z.strictObject({ ...simulateFields, ...captureFields });

describe('fields by which something stands in for a device', () => {
  it('are off by default', () => {
    expect(device.parse({})).toEqual({ simulate: false });
  });

  it('keep captures in their folder', () => {
    expect(device.safeParse({ capture: { file: '../../etc/passwd' } }).success).toBe(false);
    expect(device.parse({ capture: { file: 'meter-1.jsonl' } }).capture).toEqual({
      file: 'meter-1.jsonl',
      max_bytes: 16_777_216,
    });
  });
});
