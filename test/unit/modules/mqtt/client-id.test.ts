import { describe, expect, it } from 'vitest';
import { defaultClientId } from '../../../../modules/mqtt/client-id.ts';
import { parseDeviceId } from '../../../../src/core/device.ts';

const idOf = (gatewayId: string, adapterId = 'broker'): string =>
  defaultClientId({ gatewayId: parseDeviceId(gatewayId), adapterId });

describe('the default client id', () => {
  it('names the gateway and the adapter, so that two gateways with one host name do not share it', () => {
    expect(idOf('plant-7')).toBe('fieldpost-plant-7.broker');
  });

  it('is cut to 64 characters, and is another one for each gateway and adapter still', () => {
    const fits = 'x'.repeat(64 - 'fieldpost-.broker'.length);
    expect(idOf(fits)).toBe(`fieldpost-${fits}.broker`);
    const long = [idOf(`${fits}1`), idOf(`${fits}2`), idOf(`${fits}1`, 'brokers')];
    for (const id of long) expect(id).toMatch(/^fieldpost-x{37}-[0-9a-f]{16}$/);
    expect(new Set(long).size).toBe(3);
    expect(idOf(`${fits}1`)).toBe(long[0]);
  });
});
