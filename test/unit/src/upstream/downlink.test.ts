// How long a command holds, where that stands beside its payload.

import { describe, expect, it } from 'vitest';
import type { CommandOptions } from '../../../../src/core/command.ts';
import type { CommandReceiver, IncomingCommand, UpstreamTransport } from '../../../../src/core/endpoint.ts';
import { attachDownlink } from '../../../../src/upstream/downlink.ts';
import { GATEWAY_ID, recordingTelemetry } from '../../../support/upstream-rig.ts';
import { waitFor } from '../../../support/wait.ts';

/** The options with which it was run, or the answer. */
async function carryOut(body: object, more: Partial<IncomingCommand>): Promise<CommandOptions | { status: number }> {
  let receiver: CommandReceiver | undefined;
  let options: CommandOptions | undefined;
  let answer: { status: number } | undefined;
  const transport = {
    receiveCommands: (given: CommandReceiver) => {
      receiver = given;
    },
    answer: (_command: IncomingCommand, { body: bytes }: { body: Uint8Array }) => {
      answer = JSON.parse(Buffer.from(bytes).toString()) as { status: number };
      return Promise.resolve(true);
    },
  } as unknown as UpstreamTransport;
  attachDownlink(transport, {
    name: '$upstream',
    gatewayId: GATEWAY_ID,
    telemetry: recordingTelemetry(),
    dispatcher: {
      run: (_command, given) => {
        options = given;
        return Promise.resolve({ status: 200 });
      },
      isAway: () => false,
    },
  });
  const payload = Buffer.from(JSON.stringify({ id: '1', values: { relay: true }, ...body }));
  receiver?.onCommand({ deviceId: 'plc', command: 'write', payload, ...more });
  return options ?? (await waitFor(() => answer));
}

describe('the way down', () => {
  it('takes the earlier of two times of expiry', async () => {
    const expires_at = '2030-01-01T00:00:10Z';
    const atMs = Date.parse(expires_at);
    expect(await carryOut({ expires_at }, {})).toMatchObject({ expiresAtMs: atMs });
    expect(await carryOut({}, { expiresAtMs: 7, needsExpiry: true })).toMatchObject({ expiresAtMs: 7 });
    expect(await carryOut({ expires_at }, { expiresAtMs: atMs - 1 })).toMatchObject({ expiresAtMs: atMs - 1 });
    expect(await carryOut({ expires_at }, { expiresAtMs: atMs + 1 })).toMatchObject({ expiresAtMs: atMs });
  });

  it('refuses what comes out of a queue and does not say until when it holds', async () => {
    expect(await carryOut({}, { needsExpiry: true })).toMatchObject({
      id: '1',
      status: 400,
      code: 'GW_MESSAGE_INVALID',
    });
    expect(await carryOut({}, {})).toMatchObject({ actor: 'upstream:$upstream', expiresAtMs: undefined });
  });
});
