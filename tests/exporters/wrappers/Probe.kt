// What the test asks of a generated Processing.kt: see probe.cpp.
package model

import java.nio.ByteBuffer
import java.nio.ByteOrder

fun main(arguments: Array<String>) {
    val numbers = arguments.drop(1).map { it.toInt() }
    val data = System.`in`.readBytes()
    if (arguments[0] == "preprocess") {
        val prepared = Processing.preprocess(data, numbers[0], numbers[1])
        val bytes = ByteArray(prepared.tensor.bytes.capacity()) { prepared.tensor.bytes.get(it) }
        System.out.write(bytes)
        System.out.flush()
        System.err.print(prepared.geometry.run {
            listOf(width, height, scaledWidth, scaledHeight, left, top, inputWidth, inputHeight)
        }.joinToString(" ") + prepared.tensor.shape.joinToString("") { " $it" })
        return
    }
    val shape = LongArray(numbers.size - 8) { numbers[8 + it].toLong() }
    val buffer = ByteBuffer.allocateDirect(data.size).order(ByteOrder.nativeOrder())
    for (i in data.indices) buffer.put(i, data[i])
    val lines = found(Tensor(DType.FLOAT32, shape, buffer), numbers).joinToString("") { "$it\n" }
    System.out.write(lines.toByteArray())
    System.out.flush()
}
