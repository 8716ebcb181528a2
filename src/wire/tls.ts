// TLS on a connected socket, with the errors of Fieldpost.

import { isIP, type Socket } from 'node:net';
import { connect, type TLSSocket } from 'node:tls';
import { errorText, GatewayError, systemCode } from '../core/errors.ts';
import { abortError } from '../platform/abort.ts';
import { endedOn } from '../platform/certificates.ts';

/** Whom to trust and who to be; all PEM text. */
export interface TlsIdentity {
  /** Certificates of the authorities to trust instead of the system's. */
  readonly ca?: string;
  /** Own certificate, with the chain where the peer needs it. */
  readonly certificate?: string;
  readonly key?: string;
  /** Name that the peer's certificate must hold, and the server name indication. Default: the host. */
  readonly serverName?: string;
}

export interface TlsOptions extends TlsIdentity {
  readonly host: string;
  /** Protocols to offer by ALPN (RFC 7301), the first preferred. */
  readonly alpn?: readonly string[];
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/**
 * Makes a socket a TLS socket. The certificate is always verified; there is no way to switch that off.
 * @throws GatewayError GW_TLS, GW_TIMEOUT, GW_DISCONNECTED, GW_ABORTED; the socket is destroyed then.
 */
export function startTls(socket: Socket, options: TlsOptions): Promise<TLSSocket> {
  const { host, signal, timeoutMs } = options;
  const serverName = options.serverName ?? host;
  return new Promise<TLSSocket>((resolve, reject) => {
    let secure: TLSSocket | undefined;
    const end = (error: GatewayError): void => {
      settle();
      secure?.on('error', () => {});
      secure?.destroy();
      socket.on('error', () => {});
      socket.destroy();
      reject(error);
    };
    const onAbort = (): void => end(abortError(signal));
    const onError = (error: Error): void => end(tlsError(error, serverName));
    const onClose = (): void =>
      end(new GatewayError('GW_DISCONNECTED', `${host} closed the connection during the TLS handshake.`));
    const onTimeout = (): void =>
      end(new GatewayError('GW_TIMEOUT', `${host} did not finish the TLS handshake within ${timeoutMs} ms.`));
    const settle = (): void => {
      socket.setTimeout(0);
      socket.off('timeout', onTimeout);
      secure?.off('error', onError);
      secure?.off('close', onClose);
      secure?.off('secureConnect', onSecure);
      signal.removeEventListener('abort', onAbort);
    };
    const onSecure = (): void => {
      settle();
      if (secure !== undefined) resolve(secure);
    };
    if (signal.aborted) {
      end(abortError(signal));
      return;
    }
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      const ended = options.certificate === undefined ? undefined : endedOn(options.certificate);
      if (ended !== undefined) {
        const text = `Our own certificate for ${host} ended on ${ended}; renew it, or check the clock here.`;
        end(new GatewayError('GW_TLS', text));
        return;
      }
      secure = connect({
        socket,
        // A name indication must not be an address (RFC 6066, 3); the certificate is checked against the address.
        ...(isIP(serverName) === 0 ? { servername: serverName } : { host: serverName }),
        ...(options.ca !== undefined && { ca: options.ca }),
        ...(options.certificate !== undefined && { cert: options.certificate }),
        ...(options.key !== undefined && { key: options.key }),
        ...(options.alpn !== undefined && { ALPNProtocols: [...options.alpn] }),
      });
    } catch (error) {
      // Unreadable PEM: thrown while the context is made.
      end(new GatewayError('GW_TLS', `The certificate or key cannot be used: ${errorText(error)}.`, { cause: error }));
      return;
    }
    socket.setTimeout(timeoutMs, onTimeout);
    secure.on('error', onError);
    secure.on('close', onClose);
    secure.on('secureConnect', onSecure);
  });
}

const TLS_REASONS: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'its certificate has expired; check the date there and the clock here',
  CERT_NOT_YET_VALID: 'its certificate is not valid yet; check the clock here',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'its certificate is self-signed and not trusted; set `ca`',
  SELF_SIGNED_CERT_IN_CHAIN: 'its certificate comes from an authority that is not trusted; set `ca`',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'its certificate comes from an authority that is not trusted; set `ca`',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'its certificate comes from an authority that is not trusted; set `ca`',
  UNABLE_TO_GET_ISSUER_CERT: 'its certificate chain is not complete',
  CERT_SIGNATURE_FAILURE: 'its certificate comes from another authority of the same name; check `ca`',
  ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is for another name; check the host or set `server_name`',
  ERR_SSL_WRONG_VERSION_NUMBER: 'it does not speak TLS on this port',
  ERR_SSL_PACKET_LENGTH_TOO_LONG: 'it does not speak TLS on this port',
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: 'it asks for a client certificate; set `certificate` and `key`',
  ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE: 'it refused the handshake (client certificate or ciphers)',
  'ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE': 'it refused the handshake (client certificate or ciphers)',
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: 'it does not trust the client certificate',
  'ERR_SSL_SSL/TLS_ALERT_CERTIFICATE_EXPIRED': 'it takes our own certificate for expired; renew `certificate`',
  'ERR_SSL_SSL/TLS_ALERT_BAD_CERTIFICATE': 'it refuses our own certificate; check `certificate`',
  'ERR_SSL_SSL/TLS_ALERT_CERTIFICATE_UNKNOWN': 'it refuses our own certificate; check `certificate`',
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED: 'it takes our own certificate for expired; renew `certificate`',
  ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE: 'it refuses our own certificate; check `certificate`',
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN: 'it refuses our own certificate; check `certificate`',
  ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION: 'it asks for another version of TLS',
};

/** True for the codes with which Node and OpenSSL tell a failed handshake, at once or by a later alert (TLS 1.3). */
export function isTlsFailure(error: unknown): boolean {
  const code = systemCode(error);
  return code !== undefined && (code in TLS_REASONS || /^(?:ERR_SSL_|ERR_TLS_|CERT_|UNABLE_TO_|EPROTO$)/.test(code));
}

/** The failure of a handshake as an error that says what to do. */
export function tlsError(error: unknown, host: string): GatewayError {
  const code = systemCode(error) ?? '';
  if (!isTlsFailure(error)) {
    return new GatewayError('GW_DISCONNECTED', `The TLS handshake with ${host} broke off: ${errorText(error)}.`, {
      cause: error,
    });
  }
  return new GatewayError(
    'GW_TLS',
    `TLS with ${host} failed: ${TLS_REASONS[code] ?? errorText(error).split('\n', 1)[0]} (${code}).`,
    // A board without a clock sees tomorrow's certificates until it is told the time: try again soon.
    { cause: error, ...(code === 'CERT_NOT_YET_VALID' && { kind: 'transient' as const }) },
  );
}
