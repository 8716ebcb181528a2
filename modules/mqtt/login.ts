// Who is let in: what is looked at of a CONNECT, and what it is answered.

import type { AuthenticateError, Client } from 'aedes';
import { errorText, isGatewayError, isTopicName } from '#sdk';
import type { Authenticator } from './authenticator.ts';
import type { Connection } from './connection.ts';
import { willOf } from './field-aedes.ts';
import type { Intake } from './intake.ts';
import type { KeptSessions } from './kept-sessions.ts';
import { publishFault } from './publishing.ts';
import { Refusal } from './refusal.ts';

export const CLIENT_ID_MAX_BYTES = 128;
/** CONNACK return codes (MQTT 3.1.1, 3.2.2.3). */
const UNAVAILABLE = 3;
const BAD_CREDENTIALS = 4;
const NOT_AUTHORIZED = 5;

/** What is looked at of a CONNECT before the credentials. */
interface ConnectFacts {
  readonly clientId: string;
  readonly clean?: boolean | undefined;
  readonly will?: { readonly topic: string } | undefined;
}

export interface LoginOptions {
  readonly authenticator: Authenticator;
  readonly sessions: KeptSessions;
  readonly intake: Intake;
  readonly connectionOf: (client: Client) => Connection | undefined;
  /** Who is connected under an id. */
  readonly clientOf: (clientId: string) => Client | undefined;
  readonly refuse: (reason: string, fields: Readonly<Record<string, unknown>>) => void;
}

/** Why a CONNECT is refused before its credentials are looked at, as a stable word. */
export function connectFault(packet: ConnectFacts): string | undefined {
  if (Buffer.byteLength(packet.clientId) > CLIENT_ID_MAX_BYTES) return 'client_id_too_long';
  // MQTT 3.1.1, 3.1.3.1: without an id there is no session to keep.
  if (packet.clientId === '' && packet.clean !== true) return 'no_client_id';
  // The library publishes a will without looking at its topic.
  return packet.will === undefined || isTopicName(packet.will.topic) ? undefined : 'bad_will_topic';
}

export class Logins {
  readonly #options: LoginOptions;

  constructor(options: LoginOptions) {
    this.#options = options;
  }

  /** What the library wants to be told: an error with the return code of CONNACK, or that the client is let in. Never rejects. */
  async authenticate(
    client: Client,
    username: string | undefined,
    password: Buffer | undefined,
  ): Promise<[AuthenticateError | null, boolean]> {
    const connection = this.#options.connectionOf(client);
    if (connection === undefined) return [null, false];
    try {
      const principal = await this.#options.authenticator.authenticate({
        username,
        password: password?.toString(),
        remoteAddress: connection.remoteAddress,
      });
      if (principal === undefined) return this.#refuse(client, 'bad_credentials', BAD_CREDENTIALS);
      // Whoever knows an id could else end another client's connection, or read its messages.
      const live = this.#options.clientOf(client.id);
      const foreign =
        this.#options.sessions.isForeign(client.id, principal.username) ||
        (live !== undefined && this.#options.connectionOf(live)?.principal?.username !== principal.username);
      if (foreign) return this.#refuse(client, 'client_id_in_use', 2);
      // Asked now: when a crash leaves the will, nobody is there any more to be asked.
      const will = willOf(client);
      const refused = will === undefined ? undefined : publishFault(this.#options.intake, principal, will);
      if (refused !== undefined) return this.#refuse(client, refused, NOT_AUTHORIZED);
      if (!client.clean && !this.#options.sessions.hasRoomFor(client.id))
        return this.#refuse(client, 'too_many_sessions', UNAVAILABLE);
      connection.principal = principal;
      return [null, true];
    } catch (error) {
      if (isGatewayError(error, 'GW_THROTTLED')) return this.#refuse(client, 'logins_waiting', UNAVAILABLE);
      return [Object.assign(new Error(errorText(error)), { returnCode: UNAVAILABLE }), false];
    }
  }

  #refuse(client: Client, reason: string, returnCode: number): [AuthenticateError, false] {
    const address = this.#options.connectionOf(client)?.remoteAddress;
    this.#options.refuse(reason, { client: client.id, address });
    return [Object.assign(new Refusal('told'), { returnCode }), false];
  }
}
