// The AMQP transport, and a receiver that notes what arrives at a broker.

import rhea, { type EventContext } from 'rhea';
import type { UpstreamTransport } from '../../src/core/endpoint.ts';
import { amqpUpstreamConfig } from '../../modules/upstream-amqp/config.ts';
import { createAmqpTransport } from '../../modules/upstream-amqp/transport.ts';
import { endpointContext } from './upstream-rig.ts';
import { waitFor } from './wait.ts';

export function amqpTransport(config: Record<string, unknown>, endpointName?: string): UpstreamTransport {
  return createAmqpTransport(amqpUpstreamConfig.parse(config), endpointContext(endpointName));
}

export interface Witness extends Disposable {
  /** Bodies in the order in which they came. */
  readonly texts: readonly string[];
  readonly ids: readonly unknown[];
}

/** Receives and accepts everything of one address, and comes back at once after each loss. */
export async function witnessAmqp(
  { address, port }: { readonly address: string; readonly port: number },
  user: { readonly username: string; readonly password: string },
  source: string,
): Promise<Witness> {
  const texts: string[] = [];
  const ids: unknown[] = [];
  const container = rhea.create_container();
  container.on('error', () => {});
  container.on('disconnected', () => {});
  container.on('message', ({ message }: EventContext) => {
    const body = message?.body as { content?: Buffer } | undefined;
    texts.push(body?.content?.toString() ?? '');
    ids.push(message?.message_id);
  });
  const connection = container.connect({
    host: address,
    port,
    ...user,
    initial_reconnect_delay: 100,
    max_reconnect_delay: 500,
  });
  const receiver = connection.open_receiver({ source, credit_window: 500 });
  await waitFor(() => receiver.is_open(), { timeoutMs: 20_000, what: `a receiver at ${source}` });
  return {
    texts,
    ids,
    [Symbol.dispose]: () => {
      (connection as unknown as { set_reconnect(on: boolean): void }).set_reconnect(false);
      connection.close();
    },
  };
}
