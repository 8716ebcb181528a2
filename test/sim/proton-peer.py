"""An AMQP 1.0 peer on Qpid Proton that behaves as the address says, well or badly.

    proton-peer.py HOST PORT

The last word of an address behind a dot names the behaviour (`telemetry.release`); what is not known is taken well. As an IoT hub
it goes by the device (`/devices/meter.release/messages/events`), and answers tokens on `$cbs` by its device too. Each message that
comes is told as a line of JSON. Lines on the standard input:

    send ADDRESS JSON    a message to whoever receives from that address: body, device, command, reply_to, id, ttl_ms, expires_at_ms
    credit ADDRESS N     gives credit where none was given
"""

import json
import sys
import threading
from urllib.parse import unquote

from proton import Condition, Delivery, Endpoint, Message, Terminus, int32
from proton.handlers import MessagingHandler
from proton.reactor import ApplicationEvent, Container, EventInjector

LIMIT_BYTES = 600
CREDIT = 1000
CBS = "$cbs"


def tell(**fields):
    print(json.dumps(fields), flush=True)


def plain(value):
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("latin-1")
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def behaviour_of(address):
    words = address.split("/")
    name = words[2] if address.startswith("/devices/") else address
    return name.rsplit(".", 1)[-1]


class Later:
    def __init__(self, task):
        self.task = task

    def on_timer_task(self, _event):
        self.task()


class Peer(MessagingHandler):
    def __init__(self, url, injector):
        super().__init__(prefetch=0, auto_accept=False, auto_settle=False)
        self.url = url
        self.injector = injector
        self.counts = {}
        self.attaches = {}
        self.receivers = {}
        self.senders = {}
        self.token_answers = {}
        self.waiting = {}

    def on_start(self, event):
        event.container.selectable(self.injector)
        self.acceptor = event.container.listen(self.url)
        tell(event="listening")

    def on_connection_opening(self, event):
        tell(event="connection", hostname=event.connection.remote_hostname, container=event.connection.remote_container)

    def on_connection_error(self, event):
        pass

    def on_link_error(self, event):
        pass

    def on_session_error(self, event):
        pass

    def on_link_opening(self, event):
        link = event.link
        if link.is_sender:
            address = link.remote_source.address
            if behaviour_of(address) == "absent":
                self.refuse(event, Condition("amqp:not-found", "no such node"))
                return
            link.source.address = address
            link.open()
            self.senders[address] = link
            if address == CBS:
                self.token_answers[event.connection.remote_container] = link
            tell(event="receiver", address=address)
            return
        address = link.remote_target.address
        behaviour = behaviour_of(address)
        self.attaches[address] = self.attaches.get(address, 0) + 1
        tell(event="attach", address=address, count=self.attaches[address])
        if behaviour == "absent" or (behaviour == "late" and self.attaches[address] <= 2):
            self.refuse(event, Condition("amqp:not-found", "no such node"))
            return
        if behaviour == "forbidden":
            self.refuse(event, Condition("amqp:unauthorized-access", "not yours"))
            return
        if behaviour == "mute":
            return
        link.target.address = address
        if behaviour == "small":
            link.max_message_size = LIMIT_BYTES
        link.open()
        self.receivers[address] = link
        if behaviour != "nocredit":
            link.flow(1 if behaviour == "slow" else CREDIT)

    @staticmethod
    def refuse(event, condition):
        """An ATTACH without the terminus, then the DETACH that says why (2.6.3)."""
        link = event.link
        (link.source if link.is_sender else link.target).type = Terminus.UNSPECIFIED
        link.open()
        link.condition = condition
        # In the handler of the attach the library keeps it to itself until something else comes.
        event.container.schedule(0, Later(link.close))

    def on_link_opened(self, event):
        pass

    def on_message(self, event):
        link, delivery, message = event.receiver, event.delivery, event.message
        address = link.target.address
        if address == CBS:
            self.take_token(event)
            return
        behaviour = behaviour_of(address)
        count = self.counts[address] = self.counts.get(address, 0) + 1
        size = len(message.encode())
        tell(
            event="message",
            address=address,
            id=plain(message.id),
            body=plain(message.body),
            durable=message.durable,
            settled=delivery.settled,
            content_type=plain(message.content_type),
            correlation_id=plain(message.correlation_id),
            creation_time=message.creation_time,
            expiry_time=message.expiry_time,
            properties={key: plain(value) for key, value in (message.properties or {}).items()},
        )
        if behaviour == "silent":
            return
        if behaviour == "release":
            self.end(delivery, Delivery.RELEASED)
        elif behaviour == "releaseonce" and count == 1:
            self.end(delivery, Delivery.RELEASED)
        elif behaviour in ("modify", "modifyhere"):
            delivery.local.failed = True
            delivery.local.undeliverable = behaviour == "modifyhere"
            self.end(delivery, Delivery.MODIFIED)
        elif behaviour == "reject":
            delivery.local.condition = Condition("amqp:precondition-failed", "the schema does not fit")
            self.end(delivery, Delivery.REJECTED)
        elif behaviour == "full":
            delivery.local.condition = Condition("amqp:resource-limit-exceeded", "the queue is full")
            self.end(delivery, Delivery.REJECTED if count <= 2 else Delivery.ACCEPTED)
        elif behaviour == "settle":
            delivery.settle()
        elif behaviour == "unsettled":
            delivery.update(Delivery.ACCEPTED)
        elif behaviour == "twice":
            delivery.update(Delivery.ACCEPTED)
            event.container.schedule(0.05, Later(delivery.settle))
        elif behaviour == "rejectodd":
            delivery.local.condition = Condition("vendor:whatever", "not to my taste")
            self.end(delivery, Delivery.REJECTED)
        elif behaviour == "detach" and count == 2:
            link.close()
        elif behaviour == "detacherror" and count == 2:
            link.condition = Condition("amqp:internal-error", "something broke")
            link.close()
        elif behaviour == "detachodd" and count == 2:
            link.condition = Condition("vendor:whatever", "no longer to my taste")
            link.close()
        elif behaviour == "end" and count == 2:
            link.session.condition = Condition("amqp:internal-error", "the session broke")
            link.session.close()
        elif behaviour == "close" and count == 3:
            event.connection.condition = Condition("amqp:connection:forced", "maintenance")
            event.connection.close()
        elif behaviour == "drop" and count == 3:
            event.transport.close_head()
            event.transport.close_tail()
        elif behaviour.startswith("sick") and plain(message.body).startswith("poison"):
            ended = {"sickend": link.session, "sickclose": event.connection}.get(behaviour, link)
            if behaviour != "sickbare":
                ended.condition = Condition("amqp:internal-error", "cannot digest it")
            ended.close()
        elif behaviour == "size" and size > LIMIT_BYTES:
            link.condition = Condition("amqp:link:message-size-exceeded", "too large")
            link.close()
        else:
            self.end(delivery, Delivery.ACCEPTED)
            if behaviour == "slow":
                link.flow(1)

    def take_token(self, event):
        delivery, message = event.delivery, event.message
        audience = unquote(message.properties["name"])
        behaviour = audience.rsplit(".", 1)[-1]
        tell(event="token", address=audience, body=plain(message.body), properties=dict(message.properties))
        if behaviour == "tokenreject":
            delivery.local.condition = Condition("amqp:internal-error", "no tokens today")
            self.end(delivery, Delivery.REJECTED)
            return
        self.end(delivery, Delivery.ACCEPTED)
        if behaviour == "tokenmute":
            return
        answers = self.token_answers[event.connection.remote_container]
        if behaviour == "tokendetach":
            answers.condition = Condition("vendor:whatever", "no more answers")
            answers.close()
            return
        # An answer to nobody first.
        answers.send(Message(correlation_id="unknown", properties={"status-code": int32(401)}))
        properties = {"status-code": int32(401 if behaviour == "tokenrefuse" else 200), "status-description": "told"}
        answers.send(Message(correlation_id=message.id, properties={} if behaviour == "tokenodd" else properties))

    @staticmethod
    def end(delivery, state):
        delivery.update(state)
        delivery.settle()

    def on_link_closing(self, event):
        link = event.link
        if not link.is_sender:
            tell(event="detached", address=link.target.address)
        if link.state & Endpoint.LOCAL_ACTIVE:
            link.close()
        self.senders = {address: sender for address, sender in self.senders.items() if sender != link}

    def on_sendable(self, event):
        self.flush(event.sender.source.address)

    def flush(self, address):
        sender = self.senders.get(address)
        while sender is not None and sender.credit > 0 and self.waiting.get(address):
            sender.send(self.waiting[address].pop(0))

    def told(self, address, outcome, event):
        tell(event="outcome", address=address, outcome=outcome, settled=event.delivery.settled)
        event.delivery.settle()

    def on_accepted(self, event):
        self.told(event.link.source.address, "accepted", event)

    def on_rejected(self, event):
        self.told(event.link.source.address, "rejected", event)

    def on_released(self, event):
        self.told(event.link.source.address, "released", event)

    def on_line(self, event):
        word, address, rest = event.subject.split(" ", 2)
        if word == "credit":
            self.receivers[address].flow(int(rest))
            return
        fields = json.loads(rest)
        message = Message(body=fields["body"].encode() if fields.get("binary", True) else fields["body"])
        message.id = fields.get("id")
        message.correlation_id = fields.get("correlation_id")
        message.reply_to = fields.get("reply_to")
        if "ttl_ms" in fields:
            message.ttl = fields["ttl_ms"] / 1000
        if "expires_at_ms" in fields:
            message.expiry_time = fields["expires_at_ms"] / 1000
        properties = {}
        if "device" in fields:
            properties["device_id"] = fields["device"]
        if "command" in fields:
            properties["fieldpost-command"] = fields["command"]
        message.properties = properties
        self.waiting.setdefault(address, []).append(message)
        self.flush(address)


def read_lines(injector):
    for line in sys.stdin:
        if line.strip():
            injector.trigger(ApplicationEvent("line", subject=line.strip()))


injector = EventInjector()
threading.Thread(target=read_lines, args=(injector,), daemon=True).start()
Container(Peer(f"{sys.argv[1]}:{sys.argv[2]}", injector)).run()
