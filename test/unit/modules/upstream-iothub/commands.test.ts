import { describe, expect, it } from 'vitest';
import { createHubCommands } from '../../../../modules/upstream-iothub/commands.ts';
import type { CommandReceiver } from '../../../../src/core/endpoint.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

describe('a cloud-to-device message to the gateway', () => {
  it('that names no leaf device is refused for that', async () => {
    const ignored: unknown[] = [];
    const receiver = {
      onIgnored: (reason: string, fields: object) => void ignored.push({ reason, ...fields }),
      run: () => Promise.reject(new Error('nothing is to be done')),
    } as unknown as CommandReceiver;
    const commands = createHubCommands({ gatewayId: 'plant-7', clock: new ManualClock(), receiver });
    const message = {
      messageId: 'm-1',
      expiresAtMs: undefined,
      property: () => undefined,
      body: Buffer.from('{"values":{"relay":true}}'),
    } as unknown as Parameters<typeof commands.message>[0];
    expect(await commands.message(message, AbortSignal.timeout(5000))).toBe('refused');
    expect(ignored).toEqual([
      { reason: 'not_a_command', id: 'm-1', error: 'The property device_id is missing, which names the leaf device.' },
    ]);
  });
});
