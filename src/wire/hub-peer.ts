// Who is at the other end of a connection to the local hub.

import type { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';

/** What is known of a peer before it said a word in its protocol. */
export interface PeerFacts {
  readonly remoteAddress: string;
  /** Name that the client asked for in the handshake (RFC 6066, section 3). */
  readonly serverName?: string;
  /**
   * The client's certificate and what it sent with it, DER, its own first; empty: none. Its key is proved by the handshake,
   * its authority is not: that is for the hub to judge.
   */
  readonly certificateChain: readonly Uint8Array[];
}

/** What is known of the peer of a request or a connection. */
export function peerFacts(socket: Socket): PeerFacts {
  const remoteAddress = socket.remoteAddress ?? '';
  if (!(socket instanceof TLSSocket)) return { remoteAddress, certificateChain: [] };
  const serverName: unknown = (socket as TLSSocket & { servername?: unknown }).servername;
  return {
    remoteAddress,
    ...(typeof serverName === 'string' && { serverName }),
    certificateChain: chainOf(socket),
  };
}

/** More certificates than this are no chain that anybody uses. */
const MAX_CHAIN = 8;

function chainOf(socket: TLSSocket): readonly Uint8Array[] {
  const chain: Uint8Array[] = [];
  let certificate = socket.getPeerX509Certificate();
  while (certificate !== undefined && chain.length < MAX_CHAIN) {
    chain.push(new Uint8Array(certificate.raw));
    const issuer: X509Certificate | undefined = certificate.issuerCertificate;
    // One that signed itself is its own issuer.
    certificate = issuer?.fingerprint256 === certificate.fingerprint256 ? undefined : issuer;
  }
  return chain;
}
