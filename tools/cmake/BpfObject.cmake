# bpf_object(NAME): bpf/NAME.bpf.c -> NAME.bpf.o -> NAME.skel.h, as the interface target bpf_NAME.
# Include it in C as "NAME.skel.h".
find_program(BPF_CLANG NAMES clang REQUIRED)
find_program(BPFTOOL NAMES bpftool PATHS /usr/sbin /sbin REQUIRED)
execute_process(COMMAND ${CMAKE_C_COMPILER} -print-multiarch OUTPUT_VARIABLE BPF_MULTIARCH
	OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT BPF_MULTIARCH)
	set(BPF_MULTIARCH ${CMAKE_SYSTEM_PROCESSOR}-linux-gnu)
endif()

function(bpf_object name)
	set(source ${CMAKE_CURRENT_SOURCE_DIR}/${name}.bpf.c)
	set(object ${CMAKE_CURRENT_BINARY_DIR}/${name}.bpf.o)
	set(skeleton ${CMAKE_CURRENT_BINARY_DIR}/skel/${name}.skel.h)
	file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/skel)
	add_custom_command(OUTPUT ${object}
		COMMAND ${BPF_CLANG} -g -O2 -ffile-prefix-map=${CMAKE_SOURCE_DIR}/= -ffile-prefix-map=${CMAKE_BINARY_DIR}=build -Wall -Werror -target bpf -D__TARGET_ARCH_x86
			-I${CMAKE_SOURCE_DIR} -idirafter /usr/include/${BPF_MULTIARCH}
			-MD -MF ${object}.d -MT ${object} -c ${source} -o ${object}
		DEPENDS ${source}
		DEPFILE ${object}.d
		COMMENT "BPF ${name}" VERBATIM)
	add_custom_command(OUTPUT ${skeleton}
		COMMAND ${CMAKE_COMMAND} -DBPFTOOL=${BPFTOOL} -DOBJECT=${object} -DNAME=${name}
			-DSKELETON=${skeleton} -P ${CMAKE_SOURCE_DIR}/tools/cmake/skeleton.cmake
		DEPENDS ${object} ${CMAKE_SOURCE_DIR}/tools/cmake/skeleton.cmake
		COMMENT "Skeleton ${name}" VERBATIM)
	add_custom_target(bpf_${name}_skeleton DEPENDS ${skeleton})
	add_library(bpf_${name} INTERFACE)
	add_dependencies(bpf_${name} bpf_${name}_skeleton)
	target_include_directories(bpf_${name} SYSTEM INTERFACE ${CMAKE_CURRENT_BINARY_DIR}/skel)
endfunction()
