"""A viewer of the preview page's video: aiortc as a WHEP player in a process of its own.

    webrtc_viewer.py http://HOST:PORT/rigs/NAME/whep

Prints ``connected``, then the number of decoded frames every 0.2 s until it is terminated.
"""

import asyncio
import sys

import aiohttp
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack


def say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


async def main(url: str) -> None:
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    peer.addTransceiver("video", "recvonly")
    shown = [0]
    tasks = []

    async def watch(track: MediaStreamTrack) -> None:
        try:
            while True:
                await track.recv()
                shown[0] += 1
        except MediaStreamError:
            say("ended")

    peer.on("track", lambda track: tasks.append(asyncio.ensure_future(watch(track))))
    await peer.setLocalDescription()
    offer = {"data": peer.localDescription.sdp, "headers": {"Content-Type": "application/sdp"}}
    async with aiohttp.ClientSession() as session, session.post(url, **offer) as answer:
        answer.raise_for_status()
        await peer.setRemoteDescription(RTCSessionDescription(await answer.text(), "answer"))
    say("connected")
    while True:
        await asyncio.sleep(0.2)
        say(shown[0])


asyncio.run(main(sys.argv[1]))
