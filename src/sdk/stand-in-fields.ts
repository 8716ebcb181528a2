// Fields of a device's configuration by which something else stands in for it, the same for every adapter.

import { z } from 'zod';
import { LIMITS } from '../core/limits.ts';

/**
 * For the schema of a device. Handled by the gateway for all adapters: a device with `simulate` never reaches its adapter,
 * which only has to tell its points.
 */
export const simulateFields = {
  simulate: z.boolean().default(false).meta({
    title: 'Simulate',
    description:
      'Made-up values that move plausibly for the unit and type of each point, in place of the device; what is written is kept and read back.',
  }),
};

/** For the schema of a device whose wire carries bytes. The adapter records and plays them (`CaptureWriter`, `readCapture`). */
export const captureFields = {
  capture: z
    .strictObject({
      file: z
        .string()
        .regex(/^[\w.-]{1,120}$/, { error: 'must be a file name of letters, digits or . _ -' })
        .meta({
          title: 'File',
          description: 'Name of the file in `files/captures` of the data directory.',
          examples: ['meter-1.jsonl'],
        }),
      max_bytes: z.int().min(4096).max(LIMITS.capture_bytes).default(16_777_216).meta({
        title: 'Largest size',
        description:
          'The capture ends before the file is larger. Until then each start goes on in the same file, and nothing of it is deleted: move it away to begin anew.',
        unit: 'bytes',
      }),
    })
    .optional()
    .meta({ title: 'Capture', description: 'Records the raw bytes of this device with their times to a file.' }),
  replay: z
    .strictObject({
      file: z
        .string()
        .min(1)
        .meta({
          title: 'File',
          description: 'A capture: its name in `files/captures` of the data directory, or an absolute path.',
          examples: ['meter-1.jsonl'],
        }),
    })
    .optional()
    .meta({ title: 'Replay', description: 'Plays a capture in place of the device, through the same decoder.' }),
};
